#include "mneme/core/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "mneme/core/rng.h"

namespace mneme {
namespace {

// The nearest representable value by search over all finite 16-bit patterns of the format would be
// slow for every test value, so the check is by neighbours: no pattern beside the chosen one is
// nearer, and ties go to the even pattern.
template <typename Decode>
void expect_nearest(float value, uint16_t chosen, Decode decode) {
  const double error = std::abs(static_cast<double>(decode(chosen)) - value);
  for (const int step : {-1, 1}) {
    const auto neighbour = static_cast<uint16_t>(chosen + step);
    const float other = decode(neighbour);
    if (!std::isfinite(other)) continue;
    const double other_error = std::abs(static_cast<double>(other) - value);
    EXPECT_LE(error, other_error) << value;
    if (error == other_error) {
      EXPECT_EQ(chosen & 1, 0) << value;
    }
  }
}

TEST(Half, RoundsToNearestEven) {
  Rng rng(1);
  for (int i = 0; i < 20000; ++i) {
    const float value = static_cast<float>(rng.normal() * std::exp2(rng.uniform() * 40 - 26));
    if (std::abs(value) < 60000) expect_nearest(value, float_to_f16(value), f16_to_float);
    expect_nearest(value, float_to_bf16(value), bf16_to_float);
  }
}

TEST(Half, EveryPatternReadsBackItself) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const auto pattern = static_cast<uint16_t>(bits);
    if (!std::isnan(f16_to_float(pattern))) {
      EXPECT_EQ(float_to_f16(f16_to_float(pattern)), pattern);
    }
    if (!std::isnan(bf16_to_float(pattern))) {
      EXPECT_EQ(float_to_bf16(bf16_to_float(pattern)), pattern);
    }
  }
}

TEST(Half, KeepsInfinityAndNan) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(f16_to_float(float_to_f16(-infinity)), -infinity);
  EXPECT_EQ(bf16_to_float(float_to_bf16(infinity)), infinity);
  EXPECT_TRUE(std::isnan(f16_to_float(float_to_f16(std::nanf("")))));
  EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(std::nanf("")))));
  EXPECT_EQ(f16_to_float(float_to_f16(65520.0f)), infinity);
  EXPECT_EQ(f16_to_float(float_to_f16(65519.0f)), 65504.0f);
}

}  // namespace
}  // namespace mneme
