#include "mneme/cache/landmark_selection.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>

#include "tests/support/error_of.h"
#include "tests/support/golden.h"

namespace mneme {
namespace {

using testing::error_of;

std::vector<int32_t> select(LandmarkSelection method, const std::vector<float>& scores,
                            int64_t heads, int64_t queries, int64_t top) {
  const auto blocks = std::ssize(scores) / (heads * queries);
  std::vector<int32_t> selected(
      static_cast<size_t>(heads * queries * std::min<int64_t>(top, blocks)), -1);
  LandmarkScratch scratch;
  select_blocks(method, {scores.data(), heads, queries, blocks, blocks}, top, selected, scratch);
  return selected;
}

TEST(LandmarkSelection, TiesGoToTheLowerBlock) {
  const std::vector<float> scores = {1, 3, 3, 3, 1};
  EXPECT_EQ(select(LandmarkSelection::kPerTokenAndHead, scores, 1, 1, 2),
            (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(select(LandmarkSelection::kMaxOverHeads, scores, 1, 1, 4),
            (std::vector<int32_t>{0, 1, 2, 3}));
}

TEST(LandmarkSelection, SharedMethodsCompareProbabilitiesNotScores) {
  // Row 0 is sure of block 2 at low scores; row 1 is torn between 0 and 1 at high ones.
  const std::vector<float> scores = {-9, -9, 0, 8, 8, 7};
  EXPECT_EQ(select(LandmarkSelection::kMaxOverTokens, scores, 1, 2, 1),
            (std::vector<int32_t>{2, 2}));
  EXPECT_EQ(select(LandmarkSelection::kMaxOverHeads, scores, 2, 1, 1),
            (std::vector<int32_t>{2, 2}));
  EXPECT_EQ(select(LandmarkSelection::kPerTokenAndHead, scores, 1, 2, 1),
            (std::vector<int32_t>{2, 0}));
}

TEST(LandmarkSelection, SlotsOfTheLastBlocksAreTrue) {
  // 3 fetched of 10: blocks 7, 8, 9 stand in slots 1, 2, 3 when they are the ones fetched.
  for (int64_t rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(fetched_slot(rank, 7 + rank, 10, 3), rank + 1);
    EXPECT_EQ(landmark_slot(7 + rank, 10, 3), rank + 1);
  }
  EXPECT_EQ(landmark_slot(6, 10, 3), 0);
  EXPECT_EQ(fetched_slot(0, 2, 10, 3), 0);
  EXPECT_EQ(fetched_slot(1, 5, 10, 3), 1);
  // As many as there are: every block in its true place.
  for (int64_t block = 0; block < 4; ++block)
    EXPECT_EQ(fetched_slot(block, block, 4, 4), block + 1);
}

TEST(LandmarkSelection, RefusesBadInput) {
  const std::vector<float> scores = {1, 2};
  LandmarkScratch scratch;
  std::vector<int32_t> room(1);
  EXPECT_EQ(error_of([&] { select(LandmarkSelection::kPerTokenAndHead, scores, 1, 1, 0); }),
            "select_blocks: top must be at least 1, got 0");
  EXPECT_EQ(error_of([&] {
              select_blocks(LandmarkSelection::kPerTokenAndHead, {scores.data(), 1, 1, 2, 2}, 2,
                            room, scratch);
            }),
            "select_blocks: expected room for 2 blocks, got 1");
  EXPECT_EQ(
      error_of([&] {
        select_blocks(LandmarkSelection::kPerTokenAndHead, {scores.data(), 1, 1, 2, 1}, 1, room,
                      scratch);
      }),
      "select_blocks: expected sizes >= 0 and a stride of at least 2, got 1 heads, 1 queries, "
      "stride 1");
  EXPECT_NE(error_of([&] {
              select(LandmarkSelection::kPerTokenAndHead, {1, std::nanf("")}, 1, 1, 1);
            }).find("NaN"),
            std::string::npos);
}

TEST(GoldenLandmarkSelection, BlocksAndPositions) {
  const auto file = testing::GoldenFile::open("39-landmark-attention");
  if (file == nullptr) GTEST_SKIP();
  const std::map<std::string, LandmarkSelection> methods = {
      {"per_token_and_head", LandmarkSelection::kPerTokenAndHead},
      {"max_over_tokens", LandmarkSelection::kMaxOverTokens},
      {"max_over_heads", LandmarkSelection::kMaxOverHeads}};
  int cases = 0;
  for (const testing::GoldenCase& golden : file->cases()) {
    if (golden.kind() != "select") continue;
    SCOPED_TRACE(golden.name());
    ++cases;
    const auto& extents = golden.shape("in.landmark_scores");  // [heads, queries, blocks]
    const int64_t heads = extents[0], queries = extents[1], blocks = extents[2];
    const int64_t top = golden.config().at("top_k"),
                  length = golden.config().at("block_len_with_landmark");
    const int64_t past = golden.config().at("past_len");
    const std::vector<int32_t> selected =
        select(methods.at(golden.config().at("method")), golden.floats("in.landmark_scores"), heads,
               queries, top);
    EXPECT_EQ(std::vector<int64_t>(selected.begin(), selected.end()),
              golden.integers("out.selected"));

    const int64_t fetched = std::min(top, blocks);
    const int64_t first = past - (fetched + 1) * length;  // position of slot 0
    std::vector<int64_t> landmarks, keys;
    for (int64_t block = 0; block < blocks; ++block)
      landmarks.push_back(first + landmark_slot(block, blocks, fetched) * length + length - 1);
    for (size_t i = 0; i < selected.size(); ++i) {
      const int64_t slot =
          fetched_slot(static_cast<int64_t>(i) % fetched, selected[i], blocks, fetched);
      for (int64_t row = 0; row < length; ++row) keys.push_back(first + slot * length + row);
    }
    EXPECT_EQ(landmarks, golden.integers("out.landmark_positions"));
    EXPECT_EQ(keys, golden.integers("out.key_positions"));
  }
  EXPECT_GT(cases, 0);
}

}  // namespace
}  // namespace mneme
