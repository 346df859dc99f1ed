// Full memory for heads that retrieve, a short one for the others (papers/40 section 4, as DuoAttention
// does): the heads of a model that copy from far back are few, and the rest look at the first rows
// and the newest.
//
//   a KV head of a layer holds everything  iff  one of its query heads is among the best of the file
//   else its queries see j  iff  j <= p and (j > p - window or j < sink)
//
// The file is what `mneme heads retrieval --out` writes (io/head_scores.h); `share` of all query heads,
// best mean score first, count as retrieval heads. Layers with a narrower window of the model's own
// keep it. A saved memory remembers which heads held everything and is not loaded under others.
//
// Bytes: with f the share of KV heads that hold everything, f * tokens + (1 - f) * min(tokens, window +
// sink) rows a head on average, in pages of 64. Tests: retrieval_heads_test.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "mneme/cache/cache_policy.h"

namespace mneme {

struct RetrievalHeadsOptions {
  std::string file = "none";  // of head scores; "none": no head retrieves
  double share = 0.1;         // of the model's query heads
  int64_t window = 256, sink = 4;
};

class RetrievalHeadsPolicy final : public CachePolicy {
 public:
  // Reads the file. Throws Error where it is not of such a model and on options out of range.
  RetrievalHeadsPolicy(const MemoryShape& shape, const RetrievalHeadsOptions& options);

  std::unique_ptr<CachePolicy> clone() const override {
    return std::make_unique<RetrievalHeadsPolicy>(*this);
  }
  RowWindow window(int64_t layer, int64_t head) const override;
  bool exact() const override;
  bool bounded() const override;
  // "policy_full_heads" I32 [layers * kv_heads], 1 for a head that holds everything.
  std::vector<StateTensor> save_state() const override;
  void load_state(const TensorSource& state) override;
  int64_t state_bytes() const override;

  bool holds_everything(int64_t layer, int64_t head) const;
  // The share of KV heads that hold everything.
  double full_share() const;

 private:
  int64_t window_, sink_;
  std::vector<int32_t> full_;  // [layers * kv_heads]
};

}  // namespace mneme
