#include "mneme/kernels/select.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "mneme/core/error.h"
#include "mneme/core/rng.h"
#include "mneme/kernels/targets_testing.h"
#include "mneme/kernels/weight_testing.h"

namespace mneme {
namespace {

constexpr int64_t kSizes[] = {0, 1, 2, 15, 16, 17, 31, 33, 63, 100, 1000, 5000};

// All indices by a stable sort: of equal scores the lower index stays first.
std::vector<int32_t> ranked(const std::vector<float>& scores) {
  std::vector<int32_t> indices(scores.size());
  std::iota(indices.begin(), indices.end(), 0);
  std::ranges::stable_sort(indices, std::greater<>(),
                           [&](int32_t i) { return scores[static_cast<size_t>(i)]; });
  return indices;
}

std::vector<int32_t> ascending(std::vector<int32_t> indices) {
  std::ranges::sort(indices);
  return indices;
}

std::vector<int32_t> top(const std::vector<float>& scores, int64_t k, SelectOrder order,
                         SelectScratch& scratch) {
  std::vector<int32_t> indices(std::min(static_cast<size_t>(k), scores.size()), -7);
  EXPECT_EQ(select_top_k(scores, k, order, indices, scratch), static_cast<int64_t>(indices.size()));
  return indices;
}

std::vector<int32_t> at_least(const std::vector<float>& scores, float threshold,
                              SelectOrder order) {
  std::vector<int32_t> indices(scores.size(), -7);
  const int64_t count = select_at_least(scores, threshold, order, indices);
  // What lies behind the last one inside the array given may be overwritten, not what lies outside.
  indices.resize(static_cast<size_t>(count));
  return indices;
}

// Scores of several kinds: spread, tied, near each other, with infinities, of both signs of zero.
std::vector<std::vector<float>> score_sets(int64_t n) {
  const float infinity = std::numeric_limits<float>::infinity();
  Rng rng(static_cast<uint64_t>(n) + 1);
  std::vector<std::vector<float>> sets;
  sets.push_back(random_floats(n, 1));
  sets.push_back(random_floats(n, 2, 1e20));
  sets.emplace_back(static_cast<size_t>(n), 0.25f);
  std::vector<float> tied, near, odd, zeros;
  for (int64_t i = 0; i < n; ++i) {
    tied.push_back(static_cast<float>(rng.below(5)) - 2);
    near.push_back(std::nextafter(1.0f, 2.0f) + static_cast<float>(rng.below(900)) * 0x1p-23f);
    const float odds[] = {infinity, -infinity, 1e-45f, -1e-45f, 0.0f, 3.4e38f};
    odd.push_back(odds[rng.below(6)]);
    zeros.push_back(rng.below(2) == 0 ? 0.0f : -0.0f);
  }
  for (auto* set : {&tied, &near, &odd, &zeros}) sets.push_back(std::move(*set));
  return sets;
}

TEST(Select, TopKEqualsAStableSort) {
  for_each_target([] {
    SelectScratch scratch;
    for (const int64_t n : kSizes) {
      for (const std::vector<float>& scores : score_sets(n)) {
        const std::vector<int32_t> all = ranked(scores);
        for (const int64_t k :
             {int64_t{0}, int64_t{1}, int64_t{2}, n / 10, n / 2, n - 1, n, n + 5}) {
          if (k < 0) continue;
          SCOPED_TRACE(testing::Message() << k << " of " << n);
          const std::vector<int32_t> want(all.begin(), all.begin() + std::min(k, n));
          EXPECT_EQ(top(scores, k, SelectOrder::kRank, scratch), want);
          EXPECT_EQ(top(scores, k, SelectOrder::kIndex, scratch), ascending(want));
        }
      }
    }
  });
}

TEST(Select, AtLeastEqualsAComparison) {
  const float infinity = std::numeric_limits<float>::infinity();
  for_each_target([&] {
    for (const int64_t n : kSizes) {
      for (const std::vector<float>& scores : score_sets(n)) {
        for (const float threshold : {-infinity, -1.0f, -0.0f, 0.0f, 0.25f, 1.00001f, infinity}) {
          std::vector<int32_t> want = ranked(scores);
          std::erase_if(want,
                        [&](int32_t i) { return scores[static_cast<size_t>(i)] < threshold; });
          EXPECT_EQ(at_least(scores, threshold, SelectOrder::kRank), want);
          EXPECT_EQ(at_least(scores, threshold, SelectOrder::kIndex), ascending(want));
        }
      }
    }
  });
}

TEST(Select, TheWeakestIsTheOneThatTopKLeavesOut) {
  Rng rng(5);
  SelectScratch scratch;
  for (const int64_t n : {1, 2, 3, 5, 64, 1000}) {
    for (const int64_t values : {1, 3, 1000000}) {
      std::vector<float> scores(static_cast<size_t>(n));
      for (float& score : scores) score = static_cast<float>(rng.below(values)) - 1;
      std::vector<int32_t> kept(scores.size() - 1);
      select_top_k(scores, n - 1, SelectOrder::kIndex, kept, scratch);
      int64_t left_out = 0;
      while (left_out < n - 1 && kept[static_cast<size_t>(left_out)] == left_out) ++left_out;
      EXPECT_EQ(select_weakest(scores), left_out) << n << " of " << values;
    }
  }
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(select_weakest(std::vector<float>{infinity, infinity, infinity}), 2);
  EXPECT_EQ(select_weakest(std::vector<float>{0.0f, -infinity, 1}), 1);
  EXPECT_THROW(select_weakest({}), Error);
  EXPECT_THROW(select_weakest(std::vector<float>{1, std::nanf(""), 0}), Error);
}

TEST(Select, WritesNothingBehindTheIndices) {
  for_each_target([] {
    SelectScratch scratch;
    for (const int64_t k : {1, 5, 16, 17, 33}) {
      const std::vector<float> scores = random_floats(100, 3);
      std::vector<int32_t> indices(static_cast<size_t>(k) + 40, -7);
      select_top_k(scores, k, SelectOrder::kIndex, std::span(indices).first(static_cast<size_t>(k)),
                   scratch);
      EXPECT_EQ(std::count(indices.begin() + k, indices.end(), -7), 40);
    }
  });
}

TEST(Select, RejectsBadInput) {
  const auto message = [](const auto& call) -> std::string {
    try {
      call();
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  using ::testing::HasSubstr;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for_each_target([&] {
    SelectScratch scratch;
    for (const size_t at : {0u, 15u, 16u, 39u}) {
      std::vector<float> scores(40, 1.0f);
      scores[at] = at % 2 == 0 ? nan : -nan;
      const std::string want = concat("score ", at, " is NaN");
      for (const int64_t k : {0, 3, 40}) {
        EXPECT_THAT(message([&] { top(scores, k, SelectOrder::kIndex, scratch); }),
                    HasSubstr(want));
      }
      EXPECT_THAT(message([&] { at_least(scores, 0, SelectOrder::kIndex); }), HasSubstr(want));
    }
  });
  SelectScratch scratch;
  std::vector<float> scores(4);
  std::vector<int32_t> indices(2);
  EXPECT_THAT(message([&] { select_top_k(scores, -1, SelectOrder::kRank, indices, scratch); }),
              HasSubstr("k must not be negative, got -1"));
  EXPECT_THAT(message([&] { select_top_k(scores, 3, SelectOrder::kRank, indices, scratch); }),
              HasSubstr("room for 2 indices, 3 are selected"));
  EXPECT_THAT(message([&] { select_at_least(scores, 0, SelectOrder::kRank, indices); }),
              HasSubstr("room for 2 indices, expected 4"));
  indices.resize(4);
  EXPECT_THAT(message([&] { select_at_least(scores, nan, SelectOrder::kRank, indices); }),
              HasSubstr("the threshold is NaN"));
}

}  // namespace
}  // namespace mneme
