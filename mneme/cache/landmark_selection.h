// Which stored blocks a query fetches by the scores of their landmarks, and where their keys then
// stand: the retrieval of papers/39, sections 3.3 and 3.4.
//
// Positions are "stingy": of n stored blocks, ending where the chunk's own rows begin, the last
// kk = min(top, n) keep their true places and all older ones share one place before those. With slot
// 0 that shared place and slot kk the one next to the end,
//
//   landmark of block j is scored in slot  max(0, j - (n - kk) + 1)
//   the i-th fetched block, j, stands in   i + [j >= n - kk]          (ascending by block)
//
// so that no distance ever exceeds kk + 1 blocks and the chunk. Two fetched old blocks take slots 0
// and 1 and keep their order. With n <= top every block is fetched to its true place.
// Tests: landmark_selection_test.cc (golden select_*).
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "mneme/kernels/select.h"

namespace mneme {

enum class LandmarkSelection {
  kPerTokenAndHead,  // the best landmarks of every query and head
  kMaxOverTokens,    // the same blocks for all queries of a chunk, by their largest probability
  kMaxOverHeads      // the same blocks for all heads of a query, by their largest probability
};

inline int64_t landmark_slot(int64_t block, int64_t blocks, int64_t fetched) {
  return std::max<int64_t>(0, block - (blocks - fetched) + 1);
}

inline int64_t fetched_slot(int64_t rank, int64_t block, int64_t blocks, int64_t fetched) {
  return rank + (block >= blocks - fetched ? 1 : 0);
}

// Which selected.size() blocks, ascending, of those with these scores (or probabilities). Called by
// several threads at once.
using BlockChooser =
    std::function<void(std::span<const float> scores, std::span<int32_t> selected)>;

struct LandmarkScores {
  const float* scores = nullptr;  // [heads, queries, stride], q . landmark, scaled
  int64_t heads = 0;
  int64_t queries = 0;
  int64_t blocks = 0;  // <= stride: those that may be fetched
  int64_t stride = 0;
};

struct LandmarkScratch {
  SelectScratch select;
  std::vector<float> row, best;
};

// selected [heads, queries, min(top, blocks)], ascending blocks. Probabilities are softmax over all
// blocks. Without another rule the largest are taken, of equal ones the lower block. Equal scores
// are the rule in a model's lowest layer, where all landmarks are one token with one key and older
// blocks share one place. Throws Error on top < 1, sizes that do not fit and NaN.
void select_blocks(LandmarkSelection method, const LandmarkScores& scores, int64_t top,
                   std::span<int32_t> selected, LandmarkScratch& scratch,
                   const BlockChooser& other_rule = {});

}  // namespace mneme
