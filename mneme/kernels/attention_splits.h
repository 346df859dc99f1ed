// The splits of a call of paged_attention: runs of pages whose first positions share a multiple of
// kSplitPositions. Tests: paged_attention_test.cc (gaps, ragged heads, pages dropped).
#pragma once

#include <cstdint>
#include <span>

#include "mneme/kernels/paged_attention.h"

namespace mneme {

// Where the splits of every KV head begin, among its pages and among its stored rows.
class SplitTable {
 public:
  struct Start {
    int64_t page, row;
  };

  // Scratch keeps the table.
  SplitTable(std::span<const std::span<const PageView>> heads, AttentionScratch& scratch);

  int64_t most_splits() const { return most_splits_; }
  int64_t most_pages() const { return most_pages_; }
  int64_t splits(int64_t head) const { return splits(head, first_[head + 1]); }
  Start start(int64_t head, int64_t split) const { return starts_[first_[head] + split]; }
  int64_t rows(int64_t head) const { return start(head, splits(head)).row; }
  // Pages of a split; none past the last one.
  std::span<const PageView> pages(int64_t head, int64_t split) const {
    if (split >= splits(head)) return {};
    const int64_t begin = start(head, split).page, end = start(head, split + 1).page;
    return heads_[static_cast<size_t>(head)].subspan(static_cast<size_t>(begin),
                                                     static_cast<size_t>(end - begin));
  }

 private:
  int64_t splits(int64_t head, int64_t end) const { return end - first_[head] - 1; }

  std::span<const std::span<const PageView>> heads_;
  int64_t* first_;  // [heads + 1] index of a head's first start; each has one more for its end
  Start* starts_;
  int64_t most_splits_ = 0, most_pages_ = 1;
};

}  // namespace mneme
