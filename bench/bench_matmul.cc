// Speed of matmul.h: many rows against the rate of fused multiply-adds, one row against the rate of
// reading memory, both of the same run. A share is that of the fastest run, which on a machine with
// other work is the one nearest to the kernel.
#include "bench/bench.h"
#include "mneme/kernels/matmul.h"
#include "mneme/kernels/weight_testing.h"

namespace mneme::bench {
namespace {

constexpr int kRuns = 15;

// The nearest width below that fills whole blocks.
int64_t whole_blocks(DType dtype, int64_t in) {
  const int64_t block = dtype_info(dtype).block_elements;
  return in / block * block;
}

std::string case_text(int64_t rows, int64_t out, int64_t in) {
  return concat(rows, ": ", out, "x", in);
}

void many_rows(Report& report, ThreadPool& pool, DType dtype, int64_t out, int64_t in) {
  constexpr int64_t kRows = 512;
  const RandomWeight weight(dtype, out, in, 1);
  const std::vector<float> x = random_floats(kRows * in, 2);
  std::vector<float> y(static_cast<size_t>(kRows * out));
  const Timing time =
      time_runs(kRuns, [&] { matmul(weight.view(), x.data(), kRows, in, y.data(), out, pool); });
  const double gflop = 2e-9 * static_cast<double>(kRows * out * in);
  report.row({{"type", dtype_name(dtype)},
              {"rows: out x in", case_text(kRows, out, in)},
              {"median ms", time.median_s * 1e3},
              {"GFLOP/s", gflop / time.median_s},
              {"share of peak", gflop / time.min_s / report.limits().fma_gflops}});
  const auto bytes = static_cast<double>(weight.view().bytes + 4 * kRows * (in + out));
  report.kernel(concat(dtype_name(dtype), " matrix product ", case_text(kRows, out, in)),
                1e9 * gflop, bytes, time.median_s);
}

// Walks over so many copies of the weight that they come from memory, as those of a model do.
void one_row(Report& report, ThreadPool& pool, DType dtype, int64_t out, int64_t in) {
  const RandomWeight weight(dtype, out, in, 1);
  const int64_t bytes = weight.view().bytes;
  const int64_t copies = std::max<int64_t>(1, (96 << 20) / bytes);
  std::vector<std::byte> data(static_cast<size_t>(copies * bytes));
  std::vector<TensorView> views(static_cast<size_t>(copies), weight.view());
  for (int64_t c = 0; c < copies; ++c) {
    views[static_cast<size_t>(c)].data = data.data() + c * bytes;
    std::copy_n(weight.view().data, bytes, data.data() + c * bytes);
  }
  const std::vector<float> x = random_floats(in, 2);
  std::vector<float> y(static_cast<size_t>(out));
  const Timing time = time_runs(kRuns, [&] {
    for (const TensorView& view : views) matmul(view, x.data(), 1, in, y.data(), out, pool);
  });
  const double gbytes = 1e-9 * static_cast<double>(data.size());
  report.row({{"type", dtype_name(dtype)},
              {"rows: out x in", case_text(1, out, in)},
              {"median ms", time.median_s * 1e3 / static_cast<double>(copies)},
              {"GB/s", gbytes / time.median_s},
              {"share of reading", gbytes / time.min_s / report.limits().read_gb_per_s}});
  report.kernel(concat(dtype_name(dtype), " product with one row ", case_text(1, out, in)),
                2.0 * static_cast<double>(copies * out * in), 1e9 * gbytes, time.median_s);
}

void run(Report& report) {
  report.limits();
  ThreadPool pool(report.threads());
  for (const DType dtype : {DType::kF32, DType::kQ4_1, DType::kQ8_0, DType::kQ4_K, DType::kQ6_K}) {
    for (const auto& [out, in] :
         {std::pair<int64_t, int64_t>{576, 576}, {1536, 576}, {576, 1536}, {192, 576}}) {
      many_rows(report, pool, dtype, out, whole_blocks(dtype, in));
    }
  }
  for (const DType dtype : kWeightTypes) {
    for (const int64_t out : {1536, 49152}) {
      one_row(report, pool, dtype, out, whole_blocks(dtype, 576));
    }
  }
  report.finish();
}

}  // namespace
}  // namespace mneme::bench

int main(int argc, char** argv) try {
  mneme::bench::Report report("matmul", argc, argv);
  mneme::bench::run(report);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 2;
}
