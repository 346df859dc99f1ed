// What a query's product with any key of a block can be at most, for the blocks of one KV head: the
// smallest and the largest value of every channel over the block's keys, as they are stored.
//
//   lo_d = min_j k_jd,  hi_d = max_j k_jd     over the rows j of a block
//   q . k_j <= sum_d max(q_d lo_d, q_d hi_d)  for each of them (Quest, arXiv 2406.10774, section 3.3)
//
// A row that comes widens its block's bounds; rows that were taken back are taken out by reading what
// is left of their block. Both give the bits that reading all rows anew would, so bounds are never
// saved. Two float32 for each channel and block; forks share them, 16 blocks at a time, until one
// side writes. Tests: block_bounds_test.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "mneme/cache/paged_rows.h"

namespace mneme {

class BlockBounds {
 public:
  // dim: channels of a key; block: rows of a block. Throws Error where one is not positive.
  BlockBounds(int64_t dim, int64_t block);

  int64_t blocks() const { return (counted_ + block_ - 1) / block_; }
  // Blocks that there is room for: what changes when follow() allocates.
  int64_t room() const { return std::ssize(chunks_) * kChunkBlocks; }
  // Brings the bounds to what `rows` hold, of which the first `unchanged` are those it has seen at the
  // same places; no row is hidden. Cost: rows since then, and those before in the same block where
  // rows were taken back.
  void follow(const PagedRows& rows, int64_t unchanged);
  void forget();

  // q [dim]; scores [blocks()]: each is raised to the bound of its block where that is larger. A bound
  // that is no number raises nothing.
  void raise(const float* q, std::span<float> scores) const;

  int64_t bytes() const;
  // The same for `rows` rows.
  static int64_t bytes_for(int64_t dim, int64_t block, int64_t rows);

 private:
  static constexpr int64_t kChunkBlocks = 16;
  // [2, dim, kChunkBlocks]: lo, hi. One channel of 16 blocks is contiguous, so that bounds add up over
  // channels in one order, with blocks in the lanes.
  using Chunk = std::shared_ptr<float[]>;

  int64_t chunk_floats() const { return 2 * dim_ * kChunkBlocks; }
  // The chunk as only ours, made or copied first.
  float* writable(int64_t chunk);

  int64_t dim_, block_;
  int64_t counted_ = 0;  // rows
  std::vector<Chunk> chunks_;
};

}  // namespace mneme
