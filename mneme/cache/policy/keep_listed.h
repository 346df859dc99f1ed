// Keeps the rows at given positions of every layer and lets the rest of a text go when it has been
// read: for passes that are made for these rows alone. Tests: runtime/prefix_replay_test.cc.
#pragma once

#include <utility>
#include <vector>

#include "mneme/cache/cache_policy.h"

namespace mneme {

class KeepListed final : public CachePolicy {
 public:
  // positions [layers], increasing each.
  KeepListed(const MemoryShape& shape, std::vector<std::vector<int32_t>> positions)
      : CachePolicy(shape), positions_(std::move(positions)) {}
  std::unique_ptr<CachePolicy> clone() const override {
    return std::make_unique<KeepListed>(*this);
  }
  bool evicts() const override { return true; }
  bool wants_whole_text() const override { return true; }
  int64_t settled_rows(int64_t layer, int64_t) const override {
    return std::ssize(positions_[static_cast<size_t>(layer)]);
  }
  void leave(const PolicyStep& step, const SeenWeights&, PolicyRows& rows) override {
    const auto& listed = positions_[static_cast<size_t>(step.layer.layer)];
    const std::vector<int64_t> indices(listed.begin(), listed.end());
    for (int64_t head = 0; head < shape().kv_heads; ++head)
      rows.keep(step.layer.layer, head, indices);
  }

 private:
  std::vector<std::vector<int32_t>> positions_;
};

}  // namespace mneme
