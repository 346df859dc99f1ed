// Quest (Tang et al. 2024, arXiv 2406.10774): the cache keeps everything; while decoding, each layer
// and KV head reads the few pages whose keys could match the query best, judged without reading a key.
//
//   u[P] = max over the KV head's query heads h of  sum_d max(q_hd lo_d, q_hd hi_d)
//          lo, hi: smallest and largest value of channel d over page P's keys (block_bounds.h)
//   the newest page, which holds the token's own row, and the budget / page - 1 best others are read
//
// u is at least the largest score a row of the page has. The paper judges pages for every query head;
// heads that share a KV head share its rows here, so one list serves them: the page that is worth most
// to any of them comes first. Of equal pages the older one is read.
//
// The first `dense` layers attend in full, as in the paper; so do layers with a window of the model's
// own, and prompts. As soon as a text has more pages than the budget. Bounds cost two float32 for
// every channel and page: 1/8 of f16 rows where a page has 16, for layers that choose. Tests:
// quest_test.cc, runtime/quest_session_test.cc.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "mneme/cache/block_bounds.h"
#include "mneme/cache/cache_policy.h"
#include "mneme/cache/row_selection.h"
#include "mneme/kernels/select.h"

namespace mneme {

struct QuestOptions {
  int64_t page = 16;      // rows
  int64_t budget = 1024;  // rows a KV head reads for a token, in whole pages
  int64_t dense = 2;      // first layers that read everything
};

class Quest final : public CachePolicy {
 public:
  // Throws Error where a budget does not hold a page, naming both.
  Quest(const MemoryShape& shape, const QuestOptions& options);

  std::unique_ptr<CachePolicy> clone() const override { return std::make_unique<Quest>(*this); }
  bool decodes_apart() const override { return true; }
  void enter(const PolicyStep& step, const PolicyRows& rows) override;
  std::span<const std::span<const PageView>> reads() const override { return selection_.views(); }
  void cleared() override;
  // Bounds are made anew from the rows.
  void load_state(const TensorSource& state) override;
  int64_t state_bytes() const override;
  int64_t settled_state_bytes(int64_t length) const override;

  // Whether a layer ever reads a part only.
  bool chooses(int64_t layer) const { return layer >= options_.dense && shape().sees_all(layer); }
  // Pages a KV head read in the last step, increasing; nothing where it read everything.
  std::span<const int32_t> chosen(int64_t layer, int64_t head) const {
    return chosen_[shape().head_index(layer, head)];
  }

 private:
  void choose(const PolicyStep& step, int64_t head, std::vector<int32_t>& pages);

  QuestOptions options_;
  int64_t pages_;                             // of the budget
  std::vector<BlockBounds> bounds_;           // [layers * kv_heads]
  std::vector<std::vector<int32_t>> chosen_;  // [layers * kv_heads]
  RowSelection selection_;
  std::vector<float> scores_;
  SelectScratch scratch_;
};

}  // namespace mneme
