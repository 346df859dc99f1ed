#include "mneme/cache/landmark_selection.h"

#include "mneme/core/error.h"
#include "mneme/kernels/elementwise.h"

namespace mneme {
namespace {

// best = max(best, softmax(scores)) over `blocks`.
void take_probabilities(const float* scores, int64_t blocks, LandmarkScratch& scratch) {
  scratch.row.assign(scores, scores + blocks);
  softmax(scratch.row.data(), blocks);
  for (size_t j = 0; j < scratch.row.size(); ++j)
    scratch.best[j] = std::max(scratch.best[j], scratch.row[j]);
}

}  // namespace

void select_blocks(LandmarkSelection method, const LandmarkScores& scores, int64_t top,
                   std::span<int32_t> selected, LandmarkScratch& scratch,
                   const BlockChooser& other_rule) {
  MNEME_CHECK(top >= 1, "select_blocks: top must be at least 1, got ", top);
  MNEME_CHECK(scores.heads >= 0 && scores.queries >= 0 && scores.blocks >= 0 &&
                  scores.stride >= scores.blocks,
              "select_blocks: expected sizes >= 0 and a stride of at least ", scores.blocks,
              ", got ", scores.heads, " heads, ", scores.queries, " queries, stride ",
              scores.stride);
  const int64_t fetched = std::min(top, scores.blocks);
  MNEME_CHECK(std::ssize(selected) == scores.heads * scores.queries * fetched,
              "select_blocks: expected room for ", scores.heads * scores.queries * fetched,
              " blocks, got ", selected.size());
  if (fetched == 0) return;
  const auto row_of = [&](int64_t head, int64_t query) {
    return scores.scores + (head * scores.queries + query) * scores.stride;
  };
  const auto chosen_of = [&](int64_t head, int64_t query) {
    return selected.subspan(static_cast<size_t>((head * scores.queries + query) * fetched),
                            static_cast<size_t>(fetched));
  };
  const auto choose = [&](const float* row, std::span<int32_t> chosen) {
    const std::span<const float> candidates{row, static_cast<size_t>(scores.blocks)};
    if (other_rule) {
      other_rule(candidates, chosen);
    } else {
      select_top_k(candidates, fetched, SelectOrder::kIndex, chosen, scratch.select);
    }
  };
  const auto blocks = static_cast<size_t>(scores.blocks);
  switch (method) {
    case LandmarkSelection::kPerTokenAndHead:
      for (int64_t head = 0; head < scores.heads; ++head)
        for (int64_t query = 0; query < scores.queries; ++query)
          choose(row_of(head, query), chosen_of(head, query));
      return;
    case LandmarkSelection::kMaxOverTokens:
      if (scores.queries == 0) return;
      for (int64_t head = 0; head < scores.heads; ++head) {
        scratch.best.assign(blocks, 0.0f);
        for (int64_t query = 0; query < scores.queries; ++query)
          take_probabilities(row_of(head, query), scores.blocks, scratch);
        choose(scratch.best.data(), chosen_of(head, 0));
        for (int64_t query = 1; query < scores.queries; ++query)
          std::ranges::copy(chosen_of(head, 0), chosen_of(head, query).begin());
      }
      return;
    case LandmarkSelection::kMaxOverHeads:
      if (scores.heads == 0) return;
      for (int64_t query = 0; query < scores.queries; ++query) {
        scratch.best.assign(blocks, 0.0f);
        for (int64_t head = 0; head < scores.heads; ++head)
          take_probabilities(row_of(head, query), scores.blocks, scratch);
        choose(scratch.best.data(), chosen_of(0, query));
        for (int64_t head = 1; head < scores.heads; ++head)
          std::ranges::copy(chosen_of(0, query), chosen_of(head, query).begin());
      }
      return;
  }
}

}  // namespace mneme
