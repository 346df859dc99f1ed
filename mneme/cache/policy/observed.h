// Every row the model itself would see, like `full`, and an observer that is told the softmax weights
// of each single query: what retrieval heads are scored by (papers/40 section 3.3). Steps of more
// than one token are not observed, so that a prompt costs what it costs without. Tests:
// observed_test.cc.
#pragma once

#include <functional>
#include <span>
#include <utility>

#include "mneme/cache/cache_policy.h"

namespace mneme {

// weights: of one query head, one for each of `rows` (which tell their positions), oldest first.
using WeightObserver = std::function<void(int64_t layer, int64_t q_head,
                                          std::span<const float> weights, const PagedRows& rows)>;

class Observed final : public CachePolicy {
 public:
  // Forks share the observer.
  Observed(const MemoryShape& shape, WeightObserver observer)
      : CachePolicy(shape), observer_(std::move(observer)) {}
  std::unique_ptr<CachePolicy> clone() const override { return std::make_unique<Observed>(*this); }
  bool exact() const override { return true; }
  Watch watch(const PolicyStep& step) const override {
    return {.queries = step.tokens == 1 ? 1 : 0};
  }
  void leave(const PolicyStep& step, const SeenWeights& seen, PolicyRows& rows) override {
    if (seen.queries == 0) return;
    const int64_t ratio = shape().q_heads / shape().kv_heads;
    for (int64_t head = 0; head < shape().q_heads; ++head) {
      const PagedRows& held = rows.of(step.layer.layer, head / ratio);
      observer_(step.layer.layer, head, seen.row(0, shape().q_heads, head, held.rows()), held);
    }
  }

 private:
  WeightObserver observer_;
};

}  // namespace mneme
