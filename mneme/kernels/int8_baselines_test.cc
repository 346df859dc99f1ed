#include "mneme/kernels/int8_baselines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "mneme/kernels/int8_testing.h"
#include "mneme/kernels/targets_testing.h"
#include "mneme/kernels/weight_testing.h"
#include "tests/support/error_of.h"

namespace mneme {
namespace {

using ::testing::HasSubstr;

constexpr Int8Method kMethods[] = {Int8Method::kTensor, Int8Method::kRow, Int8Method::kVector,
                                   Int8Method::kZeroPoint};

struct Data {
  int64_t rows, out, in;
  std::vector<float> x, w;

  Data(int64_t row_count, int64_t outputs, int64_t inputs, float shift)
      : rows(row_count),
        out(outputs),
        in(inputs),
        x(random_floats(rows * in, 1)),
        w(random_floats(out * in, 2, 0.1)) {
    for (float& value : x) value += shift;
    for (float& value : w) value += 0.1f * shift;
  }
  Int8Baseline make(Int8Method method, ThreadPool& pool) const {
    return Int8Baseline(
        "proj", out, in, [&](int64_t n, float* to) { std::copy_n(w.begin() + n * in, in, to); },
        method, pool);
  }
  std::vector<float> forward(Int8Method method, ThreadPool& pool) const {
    std::vector<float> y(static_cast<size_t>(rows * out), NAN);
    make(method, pool).forward(x.data(), rows, in, y.data(), out, pool);
    return y;
  }
};

// What a value becomes: the step it is rounded to, dequantised, in float64 on float32 scales.
double dequantised(float value, float low, float high, Int8Method method) {
  if (method == Int8Method::kZeroPoint) {
    if (low == high) return value;  // exact up to rounding
    const float nd = 255.0f / (high - low);
    const double zp = std::nearbyint(-low * nd) - 128;
    const double q = std::clamp(std::nearbyint(value * nd) + zp, -128.0, 127.0);
    return (q - zp) * (static_cast<double>(high - low) / 255);
  }
  const float absmax = std::max(std::abs(low), std::abs(high));
  return naive_int8_code(value, absmax) * (static_cast<double>(absmax) / 127);
}

TEST(Int8Baselines, EqualTheirNaiveTwins) {
  ThreadPool pool(2);
  for_each_arithmetic([&] {
    for (const float shift : {0.0f, 3.0f}) {  // 3: nearly all of one sign
      const Data data(5, 37, 63, shift);
      for (const Int8Method method : kMethods) {
        const std::vector<float> y = data.forward(method, pool);
        const auto range = [](const float* values, int64_t n) {
          return std::pair(*std::min_element(values, values + n),
                           *std::max_element(values, values + n));
        };
        const bool x_by_row = method == Int8Method::kRow || method == Int8Method::kVector;
        const bool w_by_row = method == Int8Method::kVector;
        for (int64_t m = 0; m < data.rows; ++m) {
          const float* x = data.x.data() + m * data.in;
          const auto [x_low, x_high] =
              x_by_row ? range(x, data.in) : range(data.x.data(), data.rows * data.in);
          for (int64_t n = 0; n < data.out; ++n) {
            const float* w = data.w.data() + n * data.in;
            const auto [w_low, w_high] =
                w_by_row ? range(w, data.in) : range(data.w.data(), data.out * data.in);
            double exact = 0;
            for (int64_t k = 0; k < data.in; ++k) {
              exact += dequantised(x[k], x_low, x_high, method) *
                       dequantised(w[k], w_low, w_high, method);
            }
            // Integers are exact; what is left are the roundings of two scales and their product.
            ASSERT_NEAR(y[static_cast<size_t>(m * data.out + n)], exact,
                        6 * 0x1p-24 * std::abs(exact) + 1e-30)
                << "method " << static_cast<int>(method) << " at " << m << ", " << n;
          }
        }
      }
    }
  });
}

TEST(Int8Baselines, VectorWiseIsInt8LinearWithoutOutliers) {
  ThreadPool pool(2);
  const Data data(9, 50, 100, 0);
  const std::vector<float> y = data.forward(Int8Method::kVector, pool);
  const Int8Linear linear(
      "proj", data.out, data.in,
      [&](int64_t n, float* to) { std::copy_n(data.w.begin() + n * data.in, data.in, to); }, {},
      {.threshold = 0, .activations = Int8Options::Activations::kInt8}, pool);
  std::vector<float> expected(y.size());
  linear.forward(data.x.data(), data.rows, data.in, expected.data(), data.out, pool);
  for (size_t i = 0; i < y.size(); ++i) {
    EXPECT_NEAR(y[i], expected[i], 4 * 0x1p-23 * std::abs(expected[i]));
  }
}

// Finer scales lose less; data of one sign waste half of a symmetric range.
TEST(Int8Baselines, FinerScalesAreNearer) {
  ThreadPool pool(2);
  const auto error = [&](const Data& data, Int8Method method) {
    const std::vector<float> y = data.forward(method, pool);
    double sum = 0;
    for (int64_t m = 0; m < data.rows; ++m) {
      for (int64_t n = 0; n < data.out; ++n) {
        double exact = 0;
        for (int64_t k = 0; k < data.in; ++k) {
          exact += static_cast<double>(data.x[static_cast<size_t>(m * data.in + k)]) *
                   data.w[static_cast<size_t>(n * data.in + k)];
        }
        sum += std::pow(y[static_cast<size_t>(m * data.out + n)] - exact, 2);
      }
    }
    return std::sqrt(sum);
  };
  Data uneven(40, 40, 100, 0);
  for (int64_t m = 0; m < 40; ++m) {  // rows of very different size
    for (int64_t k = 0; k < 100; ++k) {
      uneven.x[static_cast<size_t>(m * 100 + k)] *= static_cast<float>(1 + m);
      uneven.w[static_cast<size_t>(m * 100 + k)] *= static_cast<float>(1 + m);
    }
  }
  EXPECT_GT(error(uneven, Int8Method::kTensor), 1.2 * error(uneven, Int8Method::kRow));
  EXPECT_GT(error(uneven, Int8Method::kRow), 1.2 * error(uneven, Int8Method::kVector));
  const Data one_sided(40, 40, 100, 5);
  EXPECT_GT(error(one_sided, Int8Method::kTensor), error(one_sided, Int8Method::kZeroPoint));
}

TEST(Int8Baselines, ConstantsAndZerosHaveAResult) {
  ThreadPool pool(1);
  for (const Int8Method method : kMethods) {
    Data data(3, 20, 10, 0);
    std::ranges::fill(data.x, 0.0f);
    for (const float value : data.forward(method, pool)) EXPECT_EQ(value, 0);
    std::ranges::fill(data.x, 2.0f);
    std::ranges::fill(data.w, -0.5f);
    for (const float value : data.forward(method, pool)) EXPECT_NEAR(value, -10, 1e-5);
  }
}

TEST(Int8Baselines, RefuseWhatIsNotFiniteByName) {
  ThreadPool pool(2);
  for (const Int8Method method : kMethods) {
    Data data(3, 20, 10, 0);
    data.x[14] = NAN;
    EXPECT_THAT(testing::error_of([&] { data.forward(method, pool); }),
                HasSubstr("proj: expected finite activations, got nan in row 1, column 4"));
    data.w[14] = HUGE_VALF;
    EXPECT_THAT(testing::error_of([&] { data.forward(method, pool); }),
                HasSubstr("proj: expected finite weights, got inf in row 1, column 4"));
  }
}

}  // namespace
}  // namespace mneme
