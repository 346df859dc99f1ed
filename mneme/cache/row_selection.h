// Some blocks of the rows a layer holds, as page tables for the attention kernel: what a policy hands
// out as reads() when its queries look at a part of a cache that keeps everything. Rows are counted
// by position, so every head must hold positions 0, 1, 2, ... Tests: row_selection_test.cc.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "mneme/cache/cache_policy.h"

namespace mneme {

class RowSelection {
 public:
  // Chooses the rows of `blocks` (ids in increasing order) of `block` rows each, in every KV head of
  // a layer. The last block may hold fewer. Throws Error on ids out of order or past the rows.
  void choose(const PolicyRows& rows, int64_t layer, int64_t kv_heads, int64_t block,
              std::span<const int32_t> blocks);
  // The same with blocks of its own for each KV head: blocks [kv_heads].
  void choose(const PolicyRows& rows, int64_t layer, int64_t block,
              std::span<const std::vector<int32_t>> blocks);
  void clear() { views_.clear(); }

  // [kv_heads], or nothing where nothing was chosen. Valid until the rows change.
  std::span<const std::span<const PageView>> views() const { return views_; }
  // Rows that are chosen of the head of most.
  int64_t rows() const { return rows_; }

 private:
  void start(int64_t kv_heads);
  void choose_of(const PagedRows& source, int64_t layer, int64_t block,
                 std::span<const int32_t> blocks);

  std::vector<std::vector<PageView>> pages_;  // [kv_heads]
  std::vector<std::span<const PageView>> views_;
  std::vector<uint64_t> wanted_;  // [pages] bits of rows
  int64_t rows_ = 0;
};

}  // namespace mneme
