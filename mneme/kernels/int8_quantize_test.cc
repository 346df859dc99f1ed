#include "mneme/kernels/int8_quantize.h"

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

using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<int> codes_of(const Int8Activations& x, int64_t row) {
  std::vector<int> codes;
  for (int64_t k = 0; k < x.in(); ++k) codes.push_back(x.code(row, k));
  return codes;
}

std::vector<float> scales_of(const Int8Activations& x) {
  return {x.absmax(), x.absmax() + x.rows()};
}

TEST(Int8Quantize, RowsEqualTheNaiveTwin) {
  for_each_target([] {
    for (const int64_t n : {1, 7, 16, 63, 100, 1000}) {
      std::vector<float> x = random_floats(n, static_cast<uint64_t>(n));
      x[static_cast<size_t>(n / 2)] = -4.5f;
      const float absmax = int8_absmax(x.data(), n, "x", "weights", 0);
      std::vector<int8_t> codes(static_cast<size_t>(n) + 1, 99);
      int8_quantize_row(x.data(), n, absmax, codes.data());
      for (int64_t i = 0; i < n; ++i) {
        const auto at = static_cast<size_t>(i);
        ASSERT_EQ(codes[at], naive_int8_code(x[at], absmax)) << x[at] << " of " << absmax;
      }
      EXPECT_EQ(codes[static_cast<size_t>(n / 2)], -127);
      EXPECT_EQ(codes.back(), 99);
    }
  });
}

// With absmax 127 the factor is 1: every half is a tie.
TEST(Int8Quantize, TiesGoToTheEvenCode) {
  for_each_target([] {
    std::vector<float> x;
    std::vector<int> expected;
    for (int k = -126; k < 126; ++k) {
      x.push_back(static_cast<float>(k) + 0.5f);
      expected.push_back(k % 2 == 0 ? k : k + 1);
    }
    x.push_back(127);
    expected.push_back(127);
    std::vector<int8_t> codes(x.size());
    int8_quantize_row(x.data(), static_cast<int64_t>(x.size()), 127, codes.data());
    EXPECT_EQ(std::vector<int>(codes.begin(), codes.end()), expected);
  });
}

TEST(Int8Quantize, ExtremeRowsKeepTheirCodes) {
  for_each_target([] {
    const float tiny = std::numeric_limits<float>::denorm_min();
    const float huge = std::numeric_limits<float>::max();
    for (const float unit : {tiny, huge}) {
      std::vector<float> x(33, 0.0f);
      x[0] = unit;
      x[20] = -unit;
      x[32] = unit;
      std::vector<int8_t> codes(x.size());
      int8_quantize_row(x.data(), 33, int8_absmax(x.data(), 33, "x", "weights", 0), codes.data());
      EXPECT_EQ(codes[0], 127);
      EXPECT_EQ(codes[20], -127);
      EXPECT_EQ(codes[32], 127);
      EXPECT_EQ(codes[1], 0);
    }
    const std::vector<float> zeros(33, -0.0f);
    std::vector<int8_t> codes(33, 5);
    int8_quantize_row(zeros.data(), 33, int8_absmax(zeros.data(), 33, "x", "weights", 0),
                      codes.data());
    EXPECT_EQ(codes, std::vector<int8_t>(33, 0));
  });
}

// The page's examples: a value at the threshold is an outlier, and a smaller value in an outlier
// column counts for its row's scale.
TEST(Int8Quantize, AnEntryOfAnOutlierColumnBelowTheThresholdCounts) {
  ThreadPool pool(2);
  for_each_target([&] {
    Int8Activations x;
    const float values[] = {6, 0.5f, -2, 4, 1.5f, 1};
    x.quantize(values, 2, 3, 3, 6, "x", pool);
    EXPECT_THAT(x.outlier_columns(), ElementsAre(0));
    EXPECT_THAT(scales_of(x), ElementsAre(2, 4));
    EXPECT_THAT(codes_of(x, 0), ElementsAre(0, 32, -127));
    EXPECT_THAT(codes_of(x, 1), ElementsAre(0, 48, 32));
    EXPECT_EQ(x.outlier_values()[0], 6);
    EXPECT_EQ(x.outlier_values()[1], 4);
    EXPECT_EQ(x.stride(), 4);
    EXPECT_EQ(x.biased_codes()[3], 128);
  });
}

TEST(Int8Quantize, RowsWithoutAnInlierHaveScaleZero) {
  ThreadPool pool(2);
  for_each_target([&] {
    Int8Activations x;
    const float values[] = {0, 0, 0, 7, 8, 9};
    x.quantize(values, 2, 3, 3, 6, "x", pool);
    EXPECT_THAT(x.outlier_columns(), ElementsAre(0, 1, 2));
    EXPECT_THAT(scales_of(x), ElementsAre(0, 0));
    for (const int64_t row : {0, 1}) EXPECT_THAT(codes_of(x, row), ElementsAre(0, 0, 0));
    // Threshold 0: no outliers, every value counts; the empty row stays empty.
    x.quantize(values, 2, 3, 3, 0, "x", pool);
    EXPECT_THAT(x.outlier_columns(), IsEmpty());
    EXPECT_THAT(scales_of(x), ElementsAre(0, 9));
    EXPECT_THAT(codes_of(x, 1), ElementsAre(99, 113, 127));
  });
}

TEST(Int8Quantize, ActivationsEqualTheNaiveTwin) {
  ThreadPool one(1), two(2);
  for_each_target([&] {
    Int8Activations x;  // used again and again: nothing of a call may be left for the next
    for (const int64_t rows : {1, 3, 100, 2}) {
      for (const int64_t in : {1, 63, 100, 1000}) {
        for (const double threshold : {0.0, 2.5, 6.0}) {
          const int64_t stride = in + 3;
          std::vector<float> values = random_floats(rows * stride, 5, 1.2);
          for (int64_t m = 0; m < rows; ++m) {
            for (int64_t k = in; k < stride; ++k)
              values[static_cast<size_t>(m * stride + k)] = kNan;
          }
          const auto at = [&](int64_t m, int64_t k) {
            return values[static_cast<size_t>(m * stride + k)];
          };
          x.quantize(values.data(), rows, stride, in, threshold, "x", rows % 2 == 0 ? two : one);
          std::vector<int32_t> outliers;
          const auto is_outlier = [&](float value) {
            return threshold > 0 && std::abs(value) >= static_cast<float>(threshold);
          };
          for (int64_t k = 0; k < in; ++k) {
            bool any = false;
            for (int64_t m = 0; m < rows; ++m) any = any || is_outlier(at(m, k));
            if (any) outliers.push_back(static_cast<int32_t>(k));
          }
          ASSERT_EQ(x.outlier_columns(), outliers) << rows << " x " << in << " at " << threshold;
          for (int64_t m = 0; m < rows; ++m) {
            float absmax = 0;
            for (int64_t k = 0; k < in; ++k) {
              if (!is_outlier(at(m, k))) absmax = std::max(absmax, std::abs(at(m, k)));
            }
            ASSERT_EQ(x.absmax()[m], absmax);
            for (int64_t k = 0; k < in; ++k) {
              const bool cut = std::ranges::binary_search(outliers, static_cast<int32_t>(k));
              ASSERT_EQ(x.code(m, k), cut ? 0 : naive_int8_code(at(m, k), absmax));
            }
            for (size_t i = 0; i < outliers.size(); ++i) {
              ASSERT_EQ(x.outlier_values()[static_cast<size_t>(m) * outliers.size() + i],
                        at(m, outliers[i]));
            }
          }
        }
      }
    }
  });
}

TEST(Int8Quantize, RefusesWhatIsNotFiniteByName) {
  ThreadPool pool(2);
  for (const float bad : {kNan, HUGE_VALF, -HUGE_VALF}) {
    std::vector<float> values = random_floats(50 * 40, 1);
    values[37 * 40 + 21] = bad;
    Int8Activations x;
    EXPECT_THAT(error_of([&] { x.quantize(values.data(), 50, 40, 40, 6, "blk.3.ffn_down", pool); }),
                ::testing::AllOf(HasSubstr("blk.3.ffn_down: expected finite activations, got"),
                                 HasSubstr("in row 37, column 21")));
  }
}

}  // namespace
}  // namespace mneme
