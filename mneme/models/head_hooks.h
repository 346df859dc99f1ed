// A hand on the attention heads of a model while it runs: their queries before attention and their
// outputs before the output projection, to be read or changed in place. head_edits.h prunes heads
// and makes them uniform with it (papers/40 section 3.5, papers/34 section 3.5), interpret/ records
// and patches. A model without hooks pays nothing. Tests: head_edits_test.cc.
#pragma once

#include <cstdint>
#include <span>

namespace mneme {

// One layer's part of one sequence in a step.
struct HeadStep {
  int64_t layer = 0;
  int64_t sequence = 0;        // in the step
  int64_t first_position = 0;  // of its tokens
  int64_t tokens = 0;
  int64_t heads = 0;  // query heads
  int64_t dim = 0;
  float* rows = nullptr;  // [tokens, heads, dim]

  std::span<float> head(int64_t token, int64_t head) const {
    return {rows + (token * heads + head) * dim, static_cast<size_t>(dim)};
  }
};

class HeadHooks {
 public:
  virtual ~HeadHooks() = default;
  // Queries with rotary positions applied. A query of zeros looks at all it sees alike.
  virtual void queries(const HeadStep& step) { (void)step; }
  // What the heads answer: the values, weighted.
  virtual void outputs(const HeadStep& step) { (void)step; }
};

}  // namespace mneme
