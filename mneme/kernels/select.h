// Selection over scores with one tie rule for the whole house: of equal scores the lower index
// comes first (torch.topk promises none, and max-pooled scores do tie). -0 equals +0; infinities
// are ordered like numbers; a NaN has no order and is refused.
//
// Cost: the largest k are found by radix on the scores' bits, O(n) whatever their order: two to
// four passes over n, three of them over what is left of the candidates; ranking adds k log k.
// Tests: select_test.cc (naive twin by stable sort, every target).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mneme {

enum class SelectOrder {
  kIndex,  // ascending indices
  kRank    // largest score first, of equal ones the lower index
};

// Memory of a selection, reused by the next: after the first of its size nothing is allocated.
struct SelectScratch {
  std::vector<uint32_t> keys, candidates;
};

// The indices of the min(k, n) largest scores -> indices, which has room for as many and returns
// their number. k >= 0. Throws Error naming the first NaN.
int64_t select_top_k(std::span<const float> scores, int64_t k, SelectOrder order,
                     std::span<int32_t> indices, SelectScratch& scratch);

// The one index that select_top_k leaves out when it takes n - 1 of n > 0 scores. Throws Error naming
// the first NaN.
int64_t select_weakest(std::span<const float> scores);

// The indices of every score >= threshold -> indices, which has room for n; returns their number.
// threshold may be infinite, not NaN. Throws Error naming the first NaN.
int64_t select_at_least(std::span<const float> scores, float threshold, SelectOrder order,
                        std::span<int32_t> indices);

}  // namespace mneme
