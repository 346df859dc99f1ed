#include "mneme/kernels/gelu_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "mneme/core/error.h"
#include "mneme/kernels/targets_testing.h"
#include "mneme/kernels/weight_testing.h"

namespace mneme {
namespace {

double exact_gelu(double x) { return x / 2 * std::erfc(-x / std::sqrt(2.0)); }

// The definition of papers/33 in float64.
double naive_table_gelu(double x) {
  const auto d = [](int64_t i) {
    const double a = static_cast<double>(i) / 32;
    return std::round(a / 2 * std::erfc(a / std::sqrt(2.0)) * 0x1p22) / 0x1p22;
  };
  const double a = std::abs(x);
  double below = 0;
  if (a < 5.5) {
    const double at = a * 32;
    const auto i = static_cast<int64_t>(at);
    below = d(i) + (at - static_cast<double>(i)) * (d(i + 1) - d(i));
  }
  return std::max(x, 0.0) - below;
}

std::vector<float> table_gelu(const std::vector<float>& x) {
  std::vector<float> y(x.size());
  gelu_table(x.data(), static_cast<int64_t>(x.size()), y.data());
  return y;
}

// Every 1/4096 of [-8, 8], so every knot and its neighbourhood. Two roundings of float32: of d (at
// most 0.17), and of the result.
TEST(GeluTable, EqualsItsDefinitionAndStaysNearTheExactGelu) {
  for_each_target([] {
    std::vector<float> x;
    for (int64_t i = -8 * 4096; i <= 8 * 4096; ++i) x.push_back(static_cast<float>(i) / 4096);
    for (const float v : random_floats(1001, 3, 3)) x.push_back(v);
    const std::vector<float> y = table_gelu(x);
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double want = naive_table_gelu(x[i]);
      ASSERT_NEAR(y[i], want, 0x1p-24 * (0.25 + std::abs(want))) << x[i];
      worst = std::max(worst, std::abs(y[i] - exact_gelu(x[i])));
    }
    EXPECT_LE(worst, 1e-4);
    EXPECT_GE(worst, 9e-5) << "a better table than the paper's is another function";
  });
}

TEST(GeluTable, TheTableHoldsMultiplesOfTheFixedPointUnit) {
  const auto entries = gelu_table_entries();
  EXPECT_EQ(entries[0], 0);
  EXPECT_EQ(entries[kGeluTableEntries - 1], 0);
  for (const float entry : entries) EXPECT_EQ(entry, std::round(entry * 0x1p22f) * 0x1p-22f);
}

TEST(GeluTable, HandlesWhatIsNoNumberOrOutside) {
  for_each_target([] {
    const float infinity = std::numeric_limits<float>::infinity();
    const float nan = std::numeric_limits<float>::quiet_NaN();
    for (const size_t padding : {0u, 5u, 16u, 40u}) {  // in whole vectors and in the rest
      std::vector<float> x(padding, 1.0f);
      for (const float v : {nan, -nan, infinity, -infinity, 5.5f, -5.5f, 3e38f, -3e38f, 0.0f})
        x.push_back(v);
      const std::vector<float> y = table_gelu(x);
      const float* got = y.data() + padding;
      EXPECT_TRUE(std::isnan(got[0]));
      EXPECT_TRUE(std::isnan(got[1]));
      EXPECT_EQ(got[2], infinity);
      EXPECT_EQ(got[3], 0);
      EXPECT_EQ(got[4], 5.5f);
      EXPECT_EQ(got[5], 0);
      EXPECT_EQ(got[6], 3e38f);
      EXPECT_EQ(got[7], 0);
      EXPECT_EQ(got[8], 0);
    }
  });
}

TEST(GeluTable, AnElementDoesNotDependOnItsPlaceAndMulMultiplies) {
  for_each_target([] {
    for (const int64_t n : {0, 1, 7, 15, 16, 17, 63, 100, 1000}) {
      const std::vector<float> x = random_floats(n, 5, 2), up = random_floats(n, 6);
      const std::vector<float> y = table_gelu(x);
      std::vector<float> gate = x;
      gelu_table_mul(gate.data(), up.data(), n);
      for (size_t i = 0; i < x.size(); ++i) {
        EXPECT_EQ(table_gelu({x[i]}).front(), y[i]);
        EXPECT_EQ(gate[i], y[i] * up[i]);
      }
    }
  });
}

TEST(GeluTable, RejectsBadInput) {
  const auto message = [](const auto& call) -> std::string {
    try {
      call();
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_THAT(message([] { gelu_table(nullptr, -1, nullptr); }),
              testing::HasSubstr("gelu_table: n must not be negative, got -1"));
  EXPECT_THAT(message([] { gelu_table_mul(nullptr, nullptr, -2); }),
              testing::HasSubstr("gelu_table_mul: n must not be negative, got -2"));
}

}  // namespace
}  // namespace mneme
