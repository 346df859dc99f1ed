// H2O (Zhang et al. 2023, arXiv 2306.14048): heavy hitters. A row is worth the sum of the weights that
// all queries so far gave it, over the query heads of its KV head; half the budget goes to the
// newest rows, half to the heaviest of the others, at the end of a text and at every token after it.
// The sums are collected by the attention kernel, never as a matrix. Tests: evicting_memory_test.cc.
#pragma once

#include "mneme/cache/policy/prompt_eviction.h"

namespace mneme {

class H2o final : public PromptEviction {
 public:
  H2o(const MemoryShape& shape, const EvictionOptions& options);
  std::unique_ptr<CachePolicy> clone() const override { return std::make_unique<H2o>(*this); }
  Watch watch(const PolicyStep& step) const override {
    return {.sums = shape().sees_all(step.layer.layer)};
  }
  void leave(const PolicyStep& step, const SeenWeights& seen, PolicyRows& rows) override;
  void committed() override;
  void aborted() override;
  void cleared() override;
  std::vector<StateTensor> save_state() const override;
  void load_state(const TensorSource& state) override;
  int64_t state_bytes() const override;
  int64_t settled_state_bytes(int64_t length) const override;

 private:
  bool cuts_while_decoding() const override { return true; }
  int64_t newest_rows(int64_t limit) const override { return limit - limit / 2; }
  void score(const Candidates& candidates, std::span<float> scores) override;
  void kept(int64_t layer, int64_t head, std::span<const int64_t> indices) override;
  void dropped(int64_t layer, int64_t head, int64_t row) override;

  // Those the step under way will leave, a copy of sums_ from its first change on.
  std::vector<float>& next_sums(int64_t layer, int64_t head);

  std::vector<std::vector<float>> sums_, next_sums_;  // [layers * kv_heads][rows]
};

}  // namespace mneme
