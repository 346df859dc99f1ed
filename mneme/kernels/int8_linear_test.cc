#include "mneme/kernels/int8_linear.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "mneme/kernels/int8_testing.h"
#include "mneme/kernels/targets_testing.h"
#include "mneme/kernels/weight_testing.h"
#include "tests/support/error_of.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using Activations = Int8Options::Activations;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Weight and bias of a layer, and what is quantised from them, all in plain loops.
struct Layer {
  int64_t out, in;
  std::vector<float> weight, bias;

  Layer(int64_t out_features, int64_t in_features, bool with_bias = true)
      : out(out_features),
        in(in_features),
        weight(random_floats(out * in, 11, 0.1)),
        bias(with_bias ? random_floats(out, 12) : std::vector<float>()) {}

  Int8Linear make(const Int8Options& options, ThreadPool& pool) const {
    return Int8Linear(
        "blk.7.ffn_up", out, in,
        [&](int64_t n, float* to) { std::copy_n(weight.begin() + n * in, in, to); }, bias, options,
        pool);
  }
  float w(int64_t n, int64_t k) const { return weight[static_cast<size_t>(n * in + k)]; }
  float absmax(int64_t n) const {
    float largest = 0;
    for (int64_t k = 0; k < in; ++k) largest = std::max(largest, std::abs(w(n, k)));
    return largest;
  }

  // The forward pass of the header in float64, from float32 scales and integer codes. magnitude:
  // the sum of the magnitudes of all that is added up; where activations are split into digits, as
  // much for each as the largest would give, which their precision is relative to.
  double forward(const std::vector<float>& x, int64_t rows, int64_t m, int64_t n,
                 const Int8Options& options, double* magnitude) const {
    const auto at = [&](int64_t row, int64_t k) { return x[static_cast<size_t>(row * in + k)]; };
    const double scb = absmax(n);
    const auto code = [&](int64_t k) { return naive_int8_code(w(n, k), absmax(n)); };
    const bool quantised = options.activations == Activations::kInt8 ||
                           (options.activations == Activations::kAuto && rows > 1);
    double y = bias.empty() ? 0 : bias[static_cast<size_t>(n)];
    *magnitude = std::abs(y);
    const auto add = [&](double value) {
      y += value;
      *magnitude += std::abs(value);
    };
    const auto is_outlier = [&](float value) {
      return options.threshold > 0 && std::abs(value) >= static_cast<float>(options.threshold);
    };
    float sca = 0;
    for (int64_t k = 0; k < in; ++k) {
      if (!is_outlier(at(m, k))) sca = std::max(sca, std::abs(at(m, k)));
    }
    double sum = 0, largest = 0;
    for (int64_t k = 0; k < in; ++k) largest = std::max(largest, std::abs(double{at(m, k)}));
    for (int64_t k = 0; k < in; ++k) {
      bool outlier = false;
      for (int64_t row = 0; row < rows; ++row) outlier = outlier || is_outlier(at(row, k));
      if (!quantised) {
        add(at(m, k) * (code(k) * scb / 127));
        *magnitude += largest * std::abs(code(k) * scb / 127);
      } else if (outlier) {
        const double weight_used =
            options.keep_original ? static_cast<double>(w(n, k)) : code(k) * scb / 127;
        add(at(m, k) * weight_used);
      } else {
        sum += naive_int8_code(at(m, k), sca) * code(k);
      }
    }
    if (quantised) add(sum * sca * scb / (127.0 * 127.0));
    return y;
  }
};

TEST(Int8Linear, EqualsTheFormulaInEveryMode) {
  ThreadPool pool(2);
  for_each_arithmetic([&] {
    for (const auto& [out, in] : {std::pair<int64_t, int64_t>{1, 1}, {37, 63}, {130, 100}}) {
      for (const int64_t rows : {1, 2, 3, 7, 125}) {
        const Layer layer(out, in, out != 37);
        std::vector<float> x = random_floats(rows * in, 13, 1.5);
        for (const Activations activations :
             {Activations::kAuto, Activations::kInt8, Activations::kFloat}) {
          for (const auto& [threshold, keep_original] :
               {std::pair<double, bool>{0, false}, {3.0, false}, {3.0, true}}) {
            const Int8Options options{threshold, activations, keep_original};
            const Int8Linear linear = layer.make(options, pool);
            const int64_t y_stride = out + 2;
            std::vector<float> y(static_cast<size_t>(rows * y_stride), kNan);
            linear.forward(x.data(), rows, in, y.data(), y_stride, pool);
            for (int64_t m = 0; m < rows; m += 3) {
              for (int64_t n = 0; n < out; ++n) {
                double magnitude = 0;
                const double exact = layer.forward(x, rows, m, n, options, &magnitude);
                // Float32 sums of `in` terms, and a few roundings of the scales.
                ASSERT_NEAR(y[static_cast<size_t>(m * y_stride + n)], exact,
                            static_cast<double>(in + 8) * 0x1p-24 * magnitude)
                    << rows << " x " << out << " x " << in << ", threshold " << threshold;
              }
              for (int64_t n = out; n < y_stride; ++n) {
                ASSERT_TRUE(std::isnan(y[static_cast<size_t>(m * y_stride + n)]));
              }
            }
          }
        }
      }
    }
  });
}

TEST(Int8Linear, SaysWhatACallDid) {
  ThreadPool pool(1);
  const Layer layer(20, 40);
  std::vector<float> x = random_floats(2 * 40, 1), y(2 * 20);
  x[7] = 6;
  x[40 + 31] = -9;
  x[40 + 7] = 8;
  const auto call = [&](Activations activations, double threshold, int64_t rows) {
    return layer.make({threshold, activations, false}, pool)
        .forward(x.data(), rows, 40, y.data(), 20, pool);
  };
  EXPECT_EQ(call(Activations::kAuto, 6, 2).outlier_columns, 2);
  EXPECT_TRUE(call(Activations::kAuto, 6, 2).quantised);
  EXPECT_FALSE(call(Activations::kAuto, 6, 1).quantised);
  EXPECT_EQ(call(Activations::kInt8, 6, 1).outlier_columns, 1);
  EXPECT_TRUE(call(Activations::kInt8, 6, 1).quantised);
  EXPECT_EQ(call(Activations::kInt8, 0, 2).outlier_columns, 0);
  EXPECT_FALSE(call(Activations::kFloat, 6, 2).quantised);
}

TEST(Int8Linear, FloatActivationsGiveARowTheSameBitsAloneAndInABatch) {
  ThreadPool one(1), two(2);
  for_each_arithmetic([&] {
    for (const int64_t out : {1, 100, 577}) {
      const int64_t in = 130, all = 250;
      const Layer layer(out, in);
      const Int8Linear linear = layer.make({6, Activations::kFloat, false}, two);
      const std::vector<float> x = random_floats(all * in, 2, 3);
      std::vector<float> alone(static_cast<size_t>(all * out));
      for (int64_t m = 0; m < all; ++m) {
        linear.forward(x.data() + m * in, 1, in, alone.data() + m * out, out, one);
      }
      for (const int64_t rows : {2, 3, 4, 9, 10, 11, 120, 121, 250}) {
        std::vector<float> y(static_cast<size_t>(rows * out), kNan);
        linear.forward(x.data(), rows, in, y.data(), out, rows % 2 == 0 ? two : one);
        ASSERT_TRUE(std::equal(y.begin(), y.end(), alone.begin())) << rows << " rows";
      }
    }
  });
}

// Digits hold a value less finely than its own float32 does, and their sums are exact: together no
// worse than a plain float32 product with the dequantised weight.
TEST(Int8Linear, FloatActivationsAreAsGoodAsAFloat32Product) {
  ThreadPool pool(2);
  for (const int64_t in : {63, 100, 1000}) {
    const int64_t rows = 40, out = 50;
    const Layer layer(out, in, false);
    const std::vector<float> x = random_floats(rows * in, 5);
    std::vector<float> y(static_cast<size_t>(rows * out));
    layer.make({6, Activations::kFloat, false}, pool)
        .forward(x.data(), rows, in, y.data(), out, pool);
    double ours = 0, plain = 0;
    for (int64_t n = 0; n < out; ++n) {
      std::vector<float> w(static_cast<size_t>(in));
      for (int64_t k = 0; k < in; ++k) {
        w[static_cast<size_t>(k)] =
            static_cast<float>(naive_int8_code(layer.w(n, k), layer.absmax(n))) *
            (layer.absmax(n) / 127.0f);
      }
      for (int64_t m = 0; m < rows; ++m) {
        double exact = 0;
        float sum = 0;
        for (int64_t k = 0; k < in; ++k) {
          const float value = x[static_cast<size_t>(m * in + k)];
          exact += static_cast<double>(value) * naive_int8_code(layer.w(n, k), layer.absmax(n)) *
                   (static_cast<double>(layer.absmax(n)) / 127);
          sum += value * w[static_cast<size_t>(k)];
        }
        ours += std::pow(y[static_cast<size_t>(m * out + n)] - exact, 2);
        plain += std::pow(sum - exact, 2);
      }
    }
    EXPECT_LE(std::sqrt(ours), 2 * std::sqrt(plain)) << in << " inputs";
  }
}

// With int8 activations the outlier columns are those of the call; threads and tasks change
// nothing.
TEST(Int8Linear, Int8ActivationsGiveTheSameBitsOnAnyNumberOfThreads) {
  ThreadPool one(1), two(2), three(3);
  for_each_arithmetic([&] {
    const int64_t out = 200, in = 130, rows = 250;
    const Layer layer(out, in);
    const Int8Linear linear = layer.make({3, Activations::kInt8, false}, two);
    const std::vector<float> x = random_floats(rows * in, 2);
    std::vector<float> expected(static_cast<size_t>(rows * out));
    EXPECT_GT(linear.forward(x.data(), rows, in, expected.data(), out, one).outlier_columns, 0);
    for (ThreadPool* pool : {&two, &three}) {
      std::vector<float> y(expected.size(), kNan);
      linear.forward(x.data(), rows, in, y.data(), out, *pool);
      ASSERT_EQ(y, expected);
    }
    // Where no row has an outlier, rows are independent again.
    const Int8Linear plain = layer.make({0, Activations::kInt8, false}, two);
    plain.forward(x.data(), rows, in, expected.data(), out, two);
    for (const int64_t m : {0, 119, 120, 249}) {
      std::vector<float> y(static_cast<size_t>(out), kNan);
      plain.forward(x.data() + m * in, 1, in, y.data(), out, one);
      ASSERT_TRUE(std::equal(y.begin(), y.end(), expected.begin() + m * out)) << m;
    }
  });
}

// X with 2 of 48 columns at 60 times sigma: the failure that the decomposition is for.
TEST(Int8Linear, TheDecompositionSavesWhatOutliersDamage) {
  ThreadPool pool(1);
  const int64_t rows = 64, out = 20, in = 48;
  const Layer layer(out, in);
  std::vector<float> x = random_floats(rows * in, 21);
  for (int64_t m = 0; m < rows; ++m) {
    for (const int64_t k : {5, 31}) x[static_cast<size_t>(m * in + k)] *= 60;
  }
  const auto max_error = [&](const Int8Options& options) {
    std::vector<float> y(static_cast<size_t>(rows * out));
    layer.make(options, pool).forward(x.data(), rows, in, y.data(), out, pool);
    double worst = 0;
    for (int64_t m = 0; m < rows; ++m) {
      for (int64_t n = 0; n < out; ++n) {
        double exact = layer.bias[static_cast<size_t>(n)];
        for (int64_t k = 0; k < in; ++k) {
          exact += static_cast<double>(x[static_cast<size_t>(m * in + k)]) * layer.w(n, k);
        }
        worst = std::max(worst, std::abs(y[static_cast<size_t>(m * out + n)] - exact));
      }
    }
    return worst;
  };
  const double damaged = max_error({0, Activations::kInt8, false});
  const double decomposed = max_error({6, Activations::kInt8, false});
  const double original = max_error({6, Activations::kInt8, true});
  EXPECT_GT(damaged, 3 * original);
  EXPECT_GT(damaged, decomposed);
  EXPECT_GT(decomposed, 3 * original);
}

TEST(Int8Linear, BackwardIsTheProductWithTheDequantisedWeight) {
  ThreadPool one(1), two(2);
  for_each_arithmetic([&] {
    for (const auto& [out, in] : {std::pair<int64_t, int64_t>{1, 1}, {37, 63}, {130, 100}}) {
      const Layer layer(out, in);
      const Int8Linear linear = layer.make({}, two);
      const int64_t rows = 125, dx_stride = in + 1;
      const std::vector<float> dy = random_floats(rows * out, 4);
      std::vector<float> dx(static_cast<size_t>(rows * dx_stride), kNan);
      linear.backward_input(dy.data(), rows, out, dx.data(), dx_stride, two);
      for (int64_t m = 0; m < rows; m += 4) {
        for (int64_t k = 0; k < in; ++k) {
          double exact = 0, magnitude = 0;
          for (int64_t n = 0; n < out; ++n) {
            const double weight =
                naive_int8_code(layer.w(n, k), layer.absmax(n)) * (layer.absmax(n) / 127.0);
            exact += dy[static_cast<size_t>(m * out + n)] * weight;
            magnitude += std::abs(dy[static_cast<size_t>(m * out + n)] * weight);
          }
          ASSERT_NEAR(dx[static_cast<size_t>(m * dx_stride + k)], exact,
                      static_cast<double>(out + 3) * 0x1p-24 * magnitude);
        }
        ASSERT_TRUE(std::isnan(dx[static_cast<size_t>(m * dx_stride + in)]));
      }
      std::vector<float> single(static_cast<size_t>(in));
      linear.backward_input(dy.data() + 121 * out, 1, out, single.data(), in, one);
      EXPECT_TRUE(std::equal(single.begin(), single.end(), dx.begin() + 121 * dx_stride));
    }
  });
}

TEST(Int8Linear, ZeroRowsOfTheWeightGiveTheBias) {
  ThreadPool pool(1);
  Layer layer(18, 12);
  std::fill_n(layer.weight.begin() + 17 * 12, 12, 0.0f);
  const Int8Linear linear = layer.make({}, pool);
  EXPECT_EQ(linear.absmax()[17], 0);
  std::vector<float> x = random_floats(3 * 12, 1), y(3 * 18);
  linear.forward(x.data(), 3, 12, y.data(), 18, pool);
  for (const size_t m : {0, 1, 2}) EXPECT_EQ(y[m * 18 + 17], layer.bias[17]);
}

TEST(Int8Linear, AStateDictGivesTheSameLayer) {
  ThreadPool pool(2);
  const Layer layer(21, 30);
  const Int8Linear linear = layer.make({}, pool);
  std::vector<int8_t> codes(21 * 30);
  for (int64_t n = 0; n < 21; ++n) linear.codes().get_row(n, codes.data() + n * 30);
  const Int8Linear again = Int8Linear::from_state("copy", std::vector<int64_t>{21, 30}, codes,
                                                  linear.absmax(), 0, layer.bias, {});
  const std::vector<float> x = random_floats(5 * 30, 3, 3);
  std::vector<float> expected(5 * 21), y(5 * 21);
  linear.forward(x.data(), 5, 30, expected.data(), 21, pool);
  again.forward(x.data(), 5, 30, y.data(), 21, pool);
  EXPECT_EQ(y, expected);
}

TEST(Int8Linear, RefusesWhatCannotBeByName) {
  ThreadPool pool(2);
  Layer layer(21, 30);
  EXPECT_THAT(
      error_of([&] { layer.make({.threshold = -1}, pool); }),
      HasSubstr("blk.7.ffn_up: the outlier threshold must be 0 (none) or positive, got -1"));
  EXPECT_THAT(error_of([&] { layer.make({.threshold = kNan}, pool); }), HasSubstr("got nan"));
  const Int8Linear linear = layer.make({}, pool);
  std::vector<float> x(2 * 30, 1), y(2 * 21);
  EXPECT_THAT(error_of([&] { linear.forward(x.data(), 2, 29, y.data(), 21, pool); }),
              HasSubstr("blk.7.ffn_up: x_stride must be at least 30, got 29"));
  EXPECT_THAT(error_of([&] { linear.forward(x.data(), 2, 30, y.data(), 20, pool); }),
              HasSubstr("y_stride must be at least 21, got 20"));
  EXPECT_THAT(error_of([&] { linear.forward(x.data(), -1, 30, y.data(), 21, pool); }),
              HasSubstr("rows must not be negative, got -1"));
  linear.forward(x.data(), 0, 30, y.data(), 21, pool);
  x[37] = kNan;
  for (const Activations activations : {Activations::kInt8, Activations::kFloat}) {
    const Int8Linear other = layer.make({6, activations, false}, pool);
    EXPECT_THAT(error_of([&] { other.forward(x.data(), 2, 30, y.data(), 21, pool); }),
                HasSubstr("blk.7.ffn_up: expected finite activations, got nan in row 1, column 7"));
  }
  layer.weight[3 * 30 + 4] = -HUGE_VALF;
  EXPECT_THAT(error_of([&] { layer.make({}, pool); }),
              HasSubstr("blk.7.ffn_up: expected finite weights, got -inf in row 3, column 4"));
  layer.bias.pop_back();
  EXPECT_THAT(error_of([&] { layer.make({}, pool); }),
              HasSubstr("expected 21 biases or none, got 20"));

  const std::vector<int8_t> codes(6, 1);
  const std::vector<float> scb(2, 1);
  const auto state = [&](std::vector<int64_t> shape, std::span<const int8_t> weight,
                         std::span<const float> scales, int64_t format, bool keep = false) {
    return error_of([&] {
      Int8Linear::from_state("q", shape, weight, scales, format, {}, {.keep_original = keep});
    });
  };
  EXPECT_THAT(state({6}, codes, scb, 0),
              HasSubstr("q: expected an int8 weight [out, in], got [6]"));
  EXPECT_THAT(state({2, 3}, codes, {}, 0), HasSubstr("q: an int8 weight needs its SCB"));
  EXPECT_THAT(state({3, 2}, codes, scb, 0), HasSubstr("expected SCB [3], got 2 values"));
  EXPECT_THAT(state({2, 4}, codes, scb, 0), HasSubstr("needs 8 codes, got 6"));
  EXPECT_THAT(state({2, 3}, codes, scb, 1),
              HasSubstr("q: weight_format must be 0 (row-major), got 1"));
  EXPECT_THAT(state({2, 3}, codes, std::vector<float>{1, kNan}, 0),
              HasSubstr("SCB must be finite and not negative, got nan for row 1"));
  EXPECT_THAT(state({2, 3}, codes, scb, 0, true), HasSubstr("keep_original needs the weights"));
}

TEST(Int8Linear, BytesAreThoseHeld) {
  ThreadPool pool(1);
  const Layer layer(33, 30);
  const int64_t panels = 3, groups = 8;
  const int64_t codes = panels * groups * 64, sums = panels * 16 * 4, scb = panels * 16 * 4;
  EXPECT_EQ(layer.make({}, pool).bytes(), codes + sums + scb + 33 * 4);
  EXPECT_EQ(layer.make({.keep_original = true}, pool).bytes(),
            codes + sums + scb + 33 * 4 + panels * 16 * 30 * 4);
}

}  // namespace
}  // namespace mneme
