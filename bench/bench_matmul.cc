// Speed of the products with weights as a model runs them (models/linear.h): the form "file" (packed
// tiles, byte dot products) and the form "float" (float32 products from the file's blocks). Many rows
// against the rates of float32 and of the best multiply-adds, one row against those of reading and copying
// memory, measured around each. Each product is first compared with the float64 one.
#include <cmath>
#include <memory>

#include "bench/bench.h"
#include "mneme/kernels/dequantize_naive.h"
#include "mneme/kernels/weight_testing.h"
#include "mneme/models/linear.h"

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

// Throws unless y [rows, out] are products of x [rows, in], up to the rounding of x to 16 bits in
// blocks and of float32 sums.
void check(const TensorView& weight, const std::vector<float>& x, const std::vector<float>& y,
           int64_t rows) {
  const int64_t out = weight.shape[0], in = weight.shape[1];
  std::vector<float> w(static_cast<size_t>(in));
  for (int64_t n = 0; n < out; n += 37) {
    naive_dequantize_row(weight, n, w.data());
    for (int64_t m = 0; m < rows; m += 29) {
      double exact = 0, magnitude = 0;
      for (int64_t k = 0; k < in; ++k) {
        const double product =
            static_cast<double>(w[static_cast<size_t>(k)]) * x[static_cast<size_t>(m * in + k)];
        exact += product;
        magnitude += std::abs(product);
      }
      const double got = y[static_cast<size_t>(m * out + n)];
      MNEME_CHECK(std::abs(got - exact) <= 3e-4 * magnitude, "bench_matmul: ", weight.name,
                  ": value ", n, " of row ", m, " is ", got, ", expected ", exact);
    }
  }
}

struct Form {
  const char* name;
  std::unique_ptr<Linear> linear;
};

// "float" always, "file" where it is another form.
std::vector<Form> forms_of(const TensorView& weight, ThreadPool& pool) {
  std::vector<Form> forms;
  auto stored = stored_linear(weight, pool);
  if (stored->packed() != nullptr) forms.push_back({"file", std::move(stored)});
  forms.push_back({"float", float_linear(weight)});
  return forms;
}

void many_rows(Report& report, ThreadPool& pool, DType dtype, int64_t out, int64_t in) {
  constexpr int64_t kRows = 512;
  const RandomWeight weight(dtype, out, in, 1);
  const std::vector<float> x = random_floats(kRows * in, 2);
  std::vector<float> y(static_cast<size_t>(kRows * out));
  for (const Form& form : forms_of(weight.view(), pool)) {
    const auto multiply = [&] { form.linear->apply(x.data(), kRows, in, y.data(), out, pool); };
    multiply();
    check(weight.view(), x, y, kRows);
    const Timing time = time_runs(kRuns, multiply);
    const double gflop = 2e-9 * static_cast<double>(kRows * out * in);
    report.row({{"type", dtype_name(dtype)},
                {"form", form.name},
                {"rows: out x in", case_text(kRows, out, in)},
                {"median ms", time.median_s * 1e3},
                {"GFLOP/s", gflop / time.median_s},
                {"of f32 peak", gflop / time.median_s / report.limits().fma_gflops},
                {"of best peak", gflop / time.median_s / report.limits().best_gflops()}});
    const auto bytes = static_cast<double>(weight.view().bytes + 4 * kRows * (in + out));
    report.kernel(concat(dtype_name(dtype), " ", form.name, " product ", case_text(kRows, out, in)),
                  1e9 * gflop, bytes, time.median_s);
  }
}

// Walks over so many copies of the weight that they come from memory, as those of a model do.
void one_row(Report& report, ThreadPool& pool, DType dtype, int64_t out, int64_t in) {
  const RandomWeight weight(dtype, out, in, 1);
  const int64_t copies = std::max<int64_t>(1, (96 << 20) / weight.view().bytes);
  std::vector<std::byte> data(static_cast<size_t>(copies * weight.view().bytes));
  std::vector<TensorView> views(static_cast<size_t>(copies), weight.view());
  std::vector<std::vector<Form>> forms;
  for (int64_t c = 0; c < copies; ++c) {
    TensorView& view = views[static_cast<size_t>(c)];
    view.data = data.data() + c * view.bytes;
    std::copy_n(weight.view().data, view.bytes, data.data() + c * view.bytes);
    forms.push_back(forms_of(view, pool));
  }
  const std::vector<float> x = random_floats(in, 2);
  std::vector<float> y(static_cast<size_t>(out));
  for (size_t f = 0; f < forms.front().size(); ++f) {
    const Form& first = forms.front()[f];
    first.linear->apply(x.data(), 1, in, y.data(), out, pool);
    check(weight.view(), x, y, 1);
    Timing time;
    const MachineLimits limits = report.limits_around([&] {
      time = time_runs(kRuns, [&] {
        for (const auto& copy : forms) copy[f].linear->apply(x.data(), 1, in, y.data(), out, pool);
      });
    });
    const int64_t each =
        first.linear->packed() != nullptr ? first.linear->owned_bytes() : weight.view().bytes;
    const auto bytes = static_cast<double>(copies * each);
    const double rate = 1e-9 * bytes / time.median_s;
    report.row({{"type", dtype_name(dtype)},
                {"form", first.name},
                {"rows: out x in", case_text(1, out, in)},
                {"median ms", time.median_s * 1e3 / static_cast<double>(copies)},
                {"GB/s", rate},
                {"of reading", rate / limits.read_gb_per_s},
                {"of copying", rate / limits.copy_gb_per_s}});
    report.kernel(concat(dtype_name(dtype), " ", first.name, " product ", case_text(1, out, in)),
                  2.0 * static_cast<double>(copies * out * in), bytes, time.median_s);
  }
}

void run(Report& report) {
  report.limits();
  ThreadPool pool(report.threads());
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kQ4_1, DType::kQ8_0, DType::kQ5_0,
                            DType::kQ4_K, DType::kQ6_K}) {
    for (const auto& [out, in] : {std::pair<int64_t, int64_t>{576, 576}, {1536, 576}, {576, 1536}})
      many_rows(report, pool, dtype, out, whole_blocks(dtype, in));
  }
  for (const DType dtype : kWeightTypes) {
    for (const int64_t out : {1536, 49152})
      one_row(report, pool, dtype, out, whole_blocks(dtype, 576));
  }
}

}  // namespace
}  // namespace mneme::bench

int main(int argc, char** argv) {
  return mneme::bench::report_main("matmul", argc, argv, mneme::bench::run);
}
