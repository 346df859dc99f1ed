#include "mneme/kernels/affine_fit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "mneme/core/error.h"
#include "mneme/kernels/targets_testing.h"
#include "mneme/kernels/weight_testing.h"
#include "tests/support/error_of.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

double squared_error(const std::vector<float>& x, const AffineParams& params,
                     const std::vector<uint8_t>& codes) {
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double back = static_cast<double>(params.scale) * codes[i] + params.bias;
    sum += (back - x[i]) * (back - x[i]);
  }
  return sum;
}

TEST(AffineFit, IsCloserThanTheEdgeRule) {
  for_each_target([] {
    for (const int64_t n : {32, 64, 128}) {
      for (const int bits : {2, 4, 8}) {
        double fitted = 0, edges = 0;
        for (uint64_t seed = 0; seed < 200; ++seed) {
          std::vector<float> x = random_floats(n, seed);
          for (float& value : x) value = value * 3 + 1;
          std::vector<uint8_t> codes(x.size());
          const AffineParams fit = affine_fit_group(x.data(), n, bits, codes.data());
          for (const uint8_t code : codes) ASSERT_LT(code, 1 << bits);
          const double error = squared_error(x, fit, codes);
          fitted += error;
          edges += squared_error(x, affine_quantize_group(x.data(), n, bits, codes.data()), codes);
        }
        if (bits == 4 && n == 64) {
          EXPECT_NEAR(fitted / edges, 0.80, 0.02);
        }
        EXPECT_LT(fitted, edges) << n << " at " << bits << " bits";
      }
    }
  });
}

TEST(AffineFit, KeepsTheLengthAlongTheValues) {
  for_each_target([] {
    for (uint64_t seed = 0; seed < 50; ++seed) {
      const std::vector<float> x = random_floats(64, seed);
      std::vector<uint8_t> codes(64);
      const AffineParams fit = affine_fit_group(x.data(), 64, 4, codes.data());
      double square = 0, product = 0;
      for (size_t i = 0; i < x.size(); ++i) {
        square += static_cast<double>(x[i]) * x[i];
        product += x[i] * (static_cast<double>(fit.scale) * codes[i] + fit.bias);
      }
      EXPECT_NEAR(product / square, 1, 1e-5);
    }
  });
}

TEST(AffineFit, SurvivesDegenerateGroups) {
  for_each_target([] {
    const auto error_at = [](std::vector<float> x) {
      std::vector<uint8_t> codes(x.size());
      const AffineParams fit =
          affine_fit_group(x.data(), static_cast<int64_t>(x.size()), 4, codes.data());
      return std::sqrt(squared_error(x, fit, codes));
    };
    EXPECT_EQ(error_at(std::vector<float>(64, 0.0f)), 0);
    EXPECT_EQ(error_at(std::vector<float>(64, -3.5f)), 0);
    EXPECT_LT(error_at(std::vector<float>(64, 1e-30f)), 1e-29);
    std::vector<float> two(64, 1.0f);
    two[7] = -1;
    EXPECT_LT(error_at(two), 1e-5);
    std::vector<float> huge(64, 1e30f);
    huge[3] = -1e30f;
    EXPECT_LT(error_at(huge), 1.4e29);  // the edge rule, one step off
  });
}

TEST(AffineFit, RefusesWhatCannotBeStored) {
  std::vector<float> x(64, 1.0f);
  std::vector<uint8_t> codes(64);
  const auto refusal = [&](int64_t n, int bits) {
    return error_of([&] { affine_fit_group(x.data(), n, bits, codes.data()); });
  };
  EXPECT_THAT(refusal(8, 4), HasSubstr("a multiple of 16, got 8"));
  EXPECT_THAT(refusal(64, 3), HasSubstr("expected 2, 4 or 8 bits, got 3"));
  x[5] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(refusal(64, 4), HasSubstr("NaN or infinity"));
}

}  // namespace
}  // namespace mneme
