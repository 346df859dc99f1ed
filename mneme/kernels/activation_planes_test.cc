#include "mneme/kernels/activation_planes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "mneme/core/error.h"
#include "mneme/kernels/targets_testing.h"
#include "mneme/kernels/weight_testing.h"
#include "tests/support/error_of.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

TEST(ActivationPlanes, AreTheDocumentedIntegersOnEveryTarget) {
  ThreadPool pool(2);
  for_each_target([&] {
    constexpr int64_t kRows = 19, kIn = 96, kStride = 101;
    std::vector<float> x = random_floats(kRows * kStride, 4);
    for (int64_t i = 0; i < 32; ++i) x[static_cast<size_t>(i)] = 0;  // a block of zeros
    x[40] = 1e-38f;
    x[static_cast<size_t>(kStride + 5)] = -1e30f;
    ActivationPlanes planes;
    planes.assign(x.data(), kRows, kStride, kIn, pool);
    ASSERT_EQ(planes.rows(), kRows);
    for (int64_t row = 0; row < kRows; ++row) {
      for (int64_t block = 0; block < kIn / 32; ++block) {
        const float* from = x.data() + row * kStride + block * 32;
        float most = 0;
        for (int64_t i = 0; i < 32; ++i) most = std::max(most, std::abs(from[i]));
        const float scale = planes.scales(row)[block];
        EXPECT_FLOAT_EQ(scale, most / 32512);
        int32_t sums[2] = {};
        for (int64_t i = 0; i < 32; ++i) {
          const int high = planes.high(row)[block * 32 + i], low = planes.low(row)[block * 32 + i];
          ASSERT_LE(std::abs(high), 127);
          const int q = 256 * high + low;
          sums[i / 16] += q;
          ASSERT_NEAR(static_cast<double>(scale) * q, from[i], most * (1.0 / 65024 + 0x1p-22))
              << row << ", " << block << ", " << i;
        }
        EXPECT_EQ(planes.sums(row)[2 * block], sums[0]);
        EXPECT_EQ(planes.sums(row)[2 * block + 1], sums[1]);
        EXPECT_EQ(planes.totals(row)[block], scale * static_cast<float>(sums[0] + sums[1]));
      }
    }
  });
}

TEST(ActivationPlanes, HandOnWhatIsNotFinite) {
  ThreadPool pool(1);
  for_each_target([&] {
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
          -std::numeric_limits<float>::infinity()}) {
      std::vector<float> x = random_floats(64, 5);
      x[33] = bad;
      ActivationPlanes planes;
      planes.assign(x.data(), 1, 64, 64, pool);
      EXPECT_TRUE(std::isfinite(planes.scales(0)[0]));
      EXPECT_TRUE(std::isnan(planes.scales(0)[1]));
      EXPECT_TRUE(std::isnan(planes.totals(0)[1]));
    }
  });
}

TEST(ActivationPlanes, RefuseShapesThatDoNotFit) {
  ThreadPool pool(1);
  ActivationPlanes planes;
  const std::vector<float> x(64);
  const auto refusal = [&](int64_t rows, int64_t stride, int64_t in) {
    return error_of([&] { planes.assign(x.data(), rows, stride, in, pool); });
  };
  EXPECT_THAT(refusal(1, 33, 33), HasSubstr("multiple of 32 inputs, got 1 rows of 33"));
  EXPECT_THAT(refusal(-1, 32, 32), HasSubstr("got -1 rows of 32"));
  EXPECT_THAT(refusal(1, 31, 32), HasSubstr("stride of at least that, got 31"));
}

}  // namespace
}  // namespace mneme
