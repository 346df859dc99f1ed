// Speed of int8_linear.h beside the float32 product of the same weight: a single row (decoding) in
// bytes read against the rate of reading memory, 512 rows (a prompt) in operations against the rate
// of float32 multiply-adds, all of the same run. Ratios are medians of pairs measured in turn.
#include <algorithm>
#include <cmath>

#include "bench/bench.h"
#include "mneme/kernels/int8_linear.h"
#include "mneme/kernels/int8_product.h"
#include "mneme/kernels/matmul.h"
#include "mneme/kernels/weight_testing.h"

namespace mneme::bench {
namespace {

constexpr int kPairs = 9;

struct Shape {
  int64_t out, in;
};
// The products of a SmolLM2 layer.
constexpr Shape kShapes[] = {{576, 576}, {192, 576}, {1536, 576}, {576, 1536}};

Int8Linear quantised(const RandomWeight& weight, const Int8Options& options, ThreadPool& pool) {
  const TensorView& view = weight.view();
  return Int8Linear(
      view.name, view.shape[0], view.shape[1],
      [&](int64_t n, float* to) { dequantize_row(view, n, to); }, {}, options, pool);
}

// No figure without a right result: integers exact, floats near the float64 product.
void check(const Int8Linear& linear, ThreadPool& pool) {
  constexpr int64_t kRows = 7;
  const int64_t in = linear.in(), out = linear.out();
  const std::vector<float> x = random_floats(kRows * in, 3);
  Int8Activations activations;
  activations.quantize(x.data(), kRows, in, in, 0, "x", pool);
  std::vector<int32_t> c(static_cast<size_t>(kRows * out));
  int8_matmul(activations, linear.codes(), c.data(), out, pool);
  std::vector<float> y(static_cast<size_t>(out));
  linear.forward(x.data(), 1, in, y.data(), out, pool);
  std::vector<int8_t> codes(static_cast<size_t>(in));
  for (int64_t n = 0; n < out; ++n) {
    linear.codes().get_row(n, codes.data());
    for (int64_t m = 0; m < kRows; ++m) {
      int32_t sum = 0;
      for (int64_t k = 0; k < in; ++k)
        sum += activations.code(m, k) * codes[static_cast<size_t>(k)];
      MNEME_CHECK(sum == c[static_cast<size_t>(m * out + n)], "bench_int8: a product is wrong");
    }
    if (linear.options().activations != Int8Options::Activations::kFloat) continue;
    double exact = 0, magnitude = 0, largest = 0;
    for (int64_t k = 0; k < in; ++k) {
      largest = std::max(largest, std::abs(double{x[static_cast<size_t>(k)]}));
    }
    const double scale = linear.absmax()[static_cast<size_t>(n)] / 127.0;
    for (int64_t k = 0; k < in; ++k) {
      const double term = scale * x[static_cast<size_t>(k)] * codes[static_cast<size_t>(k)];
      exact += term;
      magnitude += std::abs(term) + largest * std::abs(scale * codes[static_cast<size_t>(k)]);
    }
    MNEME_CHECK(std::abs(y[static_cast<size_t>(n)] - exact) <=
                    static_cast<double>(in + 8) * 0x1p-24 * magnitude,
                "bench_int8: a weight-only product is wrong");
  }
}

std::string shape_name(int64_t rows, const Shape& shape) {
  return concat(rows, ": ", shape.out, "x", shape.in);
}

void many_rows(Report& report, ThreadPool& pool, const Shape& shape, double threshold) {
  constexpr int64_t kRows = 512;
  const RandomWeight weight(DType::kF32, shape.out, shape.in, 1);
  const Int8Linear linear = quantised(
      weight, {.threshold = threshold, .activations = Int8Options::Activations::kInt8}, pool);
  check(linear, pool);
  std::vector<float> x = random_floats(kRows * shape.in, 2);
  for (int64_t m = 0; m < kRows; ++m) {  // one column in a hundred is an outlier column
    for (int64_t k = 50; k < shape.in; k += 100) x[static_cast<size_t>(m * shape.in + k)] *= 8;
  }
  std::vector<float> y(static_cast<size_t>(kRows * shape.out));
  const Race times = race(
      kPairs, [&] { linear.forward(x.data(), kRows, shape.in, y.data(), shape.out, pool); },
      [&] { matmul(weight.view(), x.data(), kRows, shape.in, y.data(), shape.out, pool); });
  const double operations = 2e-9 * static_cast<double>(kRows * shape.out * shape.in) / times.ours_s;
  report.row({{"form", threshold > 0 ? "int8, threshold 6" : "int8, threshold 0"},
              {"rows: out x in", shape_name(kRows, shape)},
              {"median ms", times.ours_s * 1e3},
              {"GOP/s", operations},
              {"of f32 peak", operations / report.limits().fma_gflops},
              {"x f32 product", times.ratio}});
}

// Walks over so many copies of the weight that they come from memory, as those of a model do.
void one_row(Report& report, ThreadPool& pool, const Shape& shape, bool weight_only) {
  const RandomWeight weight(DType::kF32, shape.out, shape.in, 1);
  const int64_t copies = std::max<int64_t>(1, (128 << 20) / (shape.out * shape.in));
  const Int8Options options{.threshold = 6,
                            .activations = weight_only ? Int8Options::Activations::kFloat
                                                       : Int8Options::Activations::kInt8};
  std::vector<Int8Linear> linears;
  for (int64_t i = 0; i < copies; ++i) linears.push_back(quantised(weight, options, pool));
  check(linears.front(), pool);
  const int64_t float_copies = std::max<int64_t>(1, copies / 4);
  std::vector<float> floats(static_cast<size_t>(float_copies * shape.out * shape.in));
  std::vector<TensorView> views(static_cast<size_t>(float_copies), weight.view());
  for (int64_t c = 0; c < float_copies; ++c) {
    float* data = floats.data() + c * shape.out * shape.in;
    std::copy_n(reinterpret_cast<const float*>(weight.view().data), shape.out * shape.in, data);
    views[static_cast<size_t>(c)].data = reinterpret_cast<const std::byte*>(data);
  }
  const std::vector<float> x = random_floats(shape.in, 2);
  std::vector<float> y(static_cast<size_t>(shape.out));
  const Race times = race(
      kPairs,
      [&] {
        for (const Int8Linear& linear : linears)
          linear.forward(x.data(), 1, shape.in, y.data(), shape.out, pool);
      },
      [&] {
        for (int64_t c = 0; c < copies; ++c) {
          matmul(views[static_cast<size_t>(c % float_copies)], x.data(), 1, shape.in, y.data(),
                 shape.out, pool);
        }
      });
  const double gbytes = 1e-9 * static_cast<double>(copies * linears.front().codes().panel_bytes() *
                                                   linears.front().codes().panels());
  report.row({{"form", weight_only ? "weight-only" : "int8, threshold 6"},
              {"rows: out x in", shape_name(1, shape)},
              {"median ms", times.ours_s * 1e3 / static_cast<double>(copies)},
              {"GB/s", gbytes / times.ours_s},
              {"of reading", gbytes / times.ours_s / report.limits().read_gb_per_s},
              {"x f32 product", times.ratio}});
}

void run(Report& report) {
  report.limits();
  ThreadPool pool(report.threads());
  for (const Shape& shape : kShapes) many_rows(report, pool, shape, 0);
  for (const Shape& shape : kShapes) many_rows(report, pool, shape, 6);
  for (const bool weight_only : {true, false}) {
    for (const Shape& shape : kShapes) one_row(report, pool, shape, weight_only);
  }
}

}  // namespace
}  // namespace mneme::bench

int main(int argc, char** argv) {
  return mneme::bench::report_main("int8", argc, argv, mneme::bench::run);
}
