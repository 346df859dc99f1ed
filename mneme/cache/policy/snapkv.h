// SnapKV (Li et al. 2024, arXiv 2404.14469): the rows that a text's last `window` queries look at
// most, averaged over them and the query heads of a KV head and smoothed along the text. With
// `pyramid` PyramidKV (Cai et al. 2024, arXiv 2406.02069): lower layers keep more rows, higher ones
// fewer, falling linearly, with the same total. Tests: evicting_memory_test.cc.
#pragma once

#include "mneme/cache/policy/prompt_eviction.h"

namespace mneme {

class SnapKv final : public PromptEviction {
 public:
  // steepness: the highest layer keeps 1/steepness of the average outside its window; 0: no pyramid.
  SnapKv(const MemoryShape& shape, const EvictionOptions& options, int64_t pool,
         int64_t steepness = 0);
  std::unique_ptr<CachePolicy> clone() const override { return std::make_unique<SnapKv>(*this); }
  int64_t query_window() const override { return options().window; }
  Watch watch(const PolicyStep&) const override {
    return {.queries = cuts() ? options().window : 0};
  }

 private:
  void score(const Candidates& candidates, std::span<float> scores) override;
  int64_t layer_rows(int64_t layer_index, int64_t layers, int64_t rows,
                     int64_t length) const override;

  int64_t pool_, steepness_;
};

}  // namespace mneme
