#include "mneme/kernels/int8_split.h"

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

constexpr double kMostQ = 127.0 * (65536 + 256 + 1);  // the largest number of three digits

// The number that the digits of one value stand for.
double joined(const SplitActivations& x, int64_t row, int64_t k) {
  const uint8_t* digits = x.biased_digits() + row * 3 * x.stride() + k;
  const int high = digits[0] - 128, middle = digits[x.stride()] - 128,
            low = digits[2 * x.stride()] - 128;
  return x.scales()[row] * (65536.0 * high + 256.0 * middle + low);
}

TEST(SplitActivations, HoldEveryValueToTheLastBitsOfTheLargest) {
  ThreadPool one(1), two(2);
  for_each_target([&] {
    SplitActivations x;
    for (const int64_t rows : {1, 3, 100}) {
      for (const int64_t in : {1, 63, 100, 1000}) {
        const int64_t stride = in + 3;
        for (const double size : {1.0, 1e-25, 1e30}) {
          std::vector<float> values = random_floats(rows * stride, 5, size);
          for (int64_t m = 0; m < rows; ++m) {
            for (int64_t k = in; k < stride; ++k) values[static_cast<size_t>(m * stride + k)] = NAN;
          }
          x.split(values.data(), rows, stride, in, "x", rows == 3 ? one : two);
          ASSERT_EQ(x.stride() % 4, 0);
          for (int64_t m = 0; m < rows; ++m) {
            const float* row = values.data() + m * stride;
            double absmax = 0;
            for (int64_t k = 0; k < in; ++k) absmax = std::max(absmax, std::abs(double{row[k]}));
            for (int64_t k = 0; k < in; ++k) {
              ASSERT_LE(std::abs(joined(x, m, k) - row[k]), absmax / kMostQ) << m << ", " << k;
            }
            for (int64_t k = in; k < x.stride(); ++k) ASSERT_EQ(joined(x, m, k), 0);
          }
        }
      }
    }
  });
}

// Around the edges of the digits' range: powers of two, the largest number of three digits, and one
// step more, each alone the row's largest.
TEST(SplitActivations, TheLargestValueFitsItsDigits) {
  ThreadPool pool(1);
  for_each_target([&] {
    const float top = 127.0f * (65536 + 256 + 1);
    std::vector<float> edges = {
        top,       std::nextafter(top, 1e9f),         std::nextafter(top, 0.0f),
        0x1p23f,   std::nextafter(0x1p23f, 0.0f),     1,
        0x1p-126f, std::numeric_limits<float>::max(), std::numeric_limits<float>::denorm_min(),
        0};
    for (const float edge : edges) {
      for (const float sign : {1.0f, -1.0f}) {
        const float values[] = {sign * edge, edge / 3, 0, -edge / 2, edge};
        SplitActivations x;
        x.split(values, 1, 5, 5, "x", pool);
        for (int64_t k = 0; k < 5; ++k) {
          // Below 2^-103 the unit is 2^-126 of that.
          const double bound = std::max(edge / kMostQ, 0x1p-127);
          ASSERT_NEAR(joined(x, 0, k), values[k], bound) << edge << " at " << k;
        }
      }
    }
  });
}

TEST(SplitActivations, DigitProductsJoinToTheProduct) {
  for_each_arithmetic([] {
    ThreadPool pool(2);
    const int64_t rows = 3, in = 77, out = 20;
    const std::vector<float> x = random_floats(rows * in, 1);
    PackedInt8 w(out, in);
    std::vector<int8_t> codes(static_cast<size_t>(in));
    for (int64_t n = 0; n < out; ++n) {
      for (int64_t k = 0; k < in; ++k) {
        codes[static_cast<size_t>(k)] = static_cast<int8_t>((n * 31 + k * 57) % 255 - 127);
      }
      w.set_row(n, codes.data());
    }
    SplitActivations split;
    split.split(x.data(), rows, in, in, "x", pool);
    std::vector<int32_t> c(3 * rows * 32);
    int8_product(split.biased_digits(), 3 * rows, split.stride(), w, 0, 2, c.data(), 32);
    std::vector<float> y(static_cast<size_t>(out) + 1, 55);
    for (int64_t m = 0; m < rows; ++m) {
      join_digit_products(c.data() + m * 3 * 32, 32, split.scales()[m], out, y.data());
      for (int64_t n = 0; n < out; ++n) {
        double exact = 0, magnitude = 0;
        for (int64_t k = 0; k < in; ++k) {
          exact += joined(split, m, k) * w.code(n, k);
          magnitude += std::abs(joined(split, m, k) * w.code(n, k));
        }
        // Only the last three operations round.
        ASSERT_NEAR(y[static_cast<size_t>(n)], exact, 4 * 0x1p-24 * magnitude);
      }
      EXPECT_EQ(y.back(), 55);
    }
  });
}

TEST(SplitActivations, RefuseWhatIsNotFiniteByName) {
  ThreadPool pool(2);
  std::vector<float> x(40, 1);
  x[27] = -HUGE_VALF;
  SplitActivations split;
  EXPECT_THAT(testing::error_of([&] { split.split(x.data(), 2, 20, 20, "blk.1.ffn_up", pool); }),
              HasSubstr("blk.1.ffn_up: expected finite activations, got -inf in row 1, column 7"));
}

}  // namespace
}  // namespace mneme
