// TOVA (Oren et al. 2024, arXiv 2401.06104): the cache as a state of fixed size. Rows are worth the
// weight that the newest query gives them, averaged over all heads of the layer, at the end of a
// text and at every token after it; all KV heads keep the same rows. Tests:
// evicting_memory_test.cc.
#pragma once

#include "mneme/cache/policy/prompt_eviction.h"

namespace mneme {

class Tova final : public PromptEviction {
 public:
  Tova(const MemoryShape& shape, const EvictionOptions& options)
      : PromptEviction(shape, {.name = options.name,
                               .budget = options.budget,
                               .window = 1,  // the newest row: no other query has seen it
                               .sink = options.sink}) {}
  std::unique_ptr<CachePolicy> clone() const override { return std::make_unique<Tova>(*this); }
  Watch watch(const PolicyStep&) const override { return {.queries = cuts() ? 1 : 0}; }

 private:
  bool cuts_while_decoding() const override { return true; }
  void score(const Candidates& candidates, std::span<float> scores) override {
    for (int64_t h = 0; h < shape().q_heads; ++h) {
      const auto weights =
          candidates.seen.row(candidates.seen.queries - 1, shape().q_heads, h, std::ssize(scores));
      for (size_t row = 0; row < scores.size(); ++row) scores[row] += weights[row];
    }
  }
};

}  // namespace mneme
