// Tests see the target that only attention is built for.
#define HWY_WANT_AVX3_DL
#include "mneme/kernels/attention_tile.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "mneme/kernels/targets_testing.h"

namespace mneme {
namespace {

std::vector<float> grid(float from, float to, int64_t n) {
  std::vector<float> x(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    x[static_cast<size_t>(i)] = from + (to - from) * static_cast<float>(i) / static_cast<float>(n);
  }
  return x;
}

TEST(AttentionTile, Exp2ErrsByLessThanTwoUlp) {
  for_each_target([] {
    for (const auto& [from, to] : {std::pair{-100.0f, 0.0f}, {-2.0f, 2.0f}, {-1e-3f, 1e-3f}}) {
      const std::vector<float> x = grid(from, to, 100000);
      std::vector<float> y(x.size());
      attention_exp2(x.data(), static_cast<int64_t>(x.size()), y.data());
      for (size_t i = 0; i < x.size(); ++i) {
        const double want = std::exp2(double{x[i]});
        ASSERT_LE(std::abs(y[i] - want), 2.4e-7 * want * (x[i] == 0 ? 0 : 1)) << "2^" << x[i];
      }
    }
  });
}

TEST(AttentionTile, Exp2OfNothingIsZero) {
  for_each_target([] {
    const std::vector<float> x = {-std::numeric_limits<float>::infinity(), -3e38f, -100.1f, 0.0f,
                                  -0.0f};
    std::vector<float> y(x.size());
    attention_exp2(x.data(), 5, y.data());
    EXPECT_EQ(y, (std::vector<float>{0, 0, 0, 1, 1}));
  });
}

TEST(AttentionTile, TanhErrsRelativelyByLessThan4e7) {
  for_each_target([] {
    for (const float reach : {20.0f, 1.0f, 1e-2f, 1e-6f}) {
      const std::vector<float> x = grid(-reach, reach, 50000);
      std::vector<float> y(x.size());
      attention_tanh(x.data(), static_cast<int64_t>(x.size()), y.data());
      for (size_t i = 0; i < x.size(); ++i) {
        const double want = std::tanh(double{x[i]});
        ASSERT_LE(std::abs(y[i] - want), 4e-7 * std::abs(want)) << "tanh " << x[i];
      }
    }
  });
}

TEST(AttentionTile, TilesHoldWholeQueries) {
  for (const auto& [q_heads, kv_heads] : {std::pair<int64_t, int64_t>{9, 3}, {1, 1}, {500, 1}}) {
    const TilePlan plan({{RowEncoding::kF16, 64, 64}, q_heads, kv_heads}, 8);
    EXPECT_GE(plan.tile_queries, 1);
    EXPECT_LE(plan.tile_queries, kMaxTileQueries);
    EXPECT_GE(plan.memory_floats(plan.ratio), plan.ratio * 64);
  }
}

}  // namespace
}  // namespace mneme
