// The rows of one layer, all KV heads, in blocks of a fixed number of positions, with a landmark key
// for every complete block: what landmark_memory.h reads. Complete blocks lie in a BlockStore and
// never change; the newest one, still open, lies in memory. A step writes behind the committed rows
// and becomes valid with commit(); abort() has nothing to undo, because rows behind the end are
// written again.
//
//   block g holds positions [g * rows, (g + 1) * rows), for every KV head one RowBlock
//   landmarks: tiles of kTileBlocks keys, for every KV head one RowBlock without values
//
// Tests: landmark_memory_test.cc.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "mneme/cache/block_store.h"
#include "mneme/kernels/row_block.h"

namespace mneme {

class BlockRows {
 public:
  static constexpr int64_t kTileBlocks = 64;

  // `memory` and `store` hold blocks of kv_heads * layout.bytes(): the open ones, and the complete
  // ones (they may be one). landmarks: whether blocks get any.
  BlockRows(RowBlock layout, int64_t kv_heads, bool landmarks, std::shared_ptr<BlockStore> memory,
            std::shared_ptr<BlockStore> store);

  int64_t first_block() const { return first_; }  // of those held
  int64_t complete_blocks() const { return first_ + std::ssize(complete_); }

  // Makes room for positions [begin, end), begin being where the rows end.
  void reserve(int64_t begin, int64_t end);
  // One KV head of a block that is held or has been reserved.
  const std::byte* block(int64_t block, int64_t head) const {
    return whole(block) + head * layout_.bytes();
  }
  std::byte* open_block(int64_t block, int64_t head);
  const RowBlock& tile_layout() const { return tile_layout_; }
  const std::byte* tile(int64_t tile, int64_t head) const;
  void write_landmark(int64_t block, int64_t head, const float* key);

  // The rows end at `end`; blocks before `first` are let go.
  void commit(int64_t end, int64_t first);
  void abort(int64_t end);
  void trim(int64_t end);
  void clear();

  // A complete block, or the open one, as it is; what a file holds.
  const std::byte* whole(int64_t block) const;
  // Takes over blocks in order, as whole() gave them, beginning with `first`.
  void begin_loading(int64_t first) { clear(), first_ = first; }
  void load_complete(const std::byte* bytes);
  void load_open(const std::byte* bytes);

  int64_t resident_bytes() const;
  // resident_bytes() when blocks [first, end / rows) are complete and rows reach to `end`.
  int64_t bytes_at(int64_t end, int64_t first) const;
  // resident_bytes() after reserve(., end).
  int64_t bytes_reserved(int64_t end) const;

 private:
  using Block = std::shared_ptr<std::byte>;
  int64_t complete_bytes() const { return store_->resident_block_bytes() + int64_t{sizeof(Block)}; }
  int64_t open_bytes() const { return memory_->block_bytes() + int64_t{sizeof(Block)}; }
  int64_t tile_bytes() const { return kv_heads_ * tile_layout_.bytes(); }
  int64_t first_tile() const { return first_ / kTileBlocks; }
  Block copy_into(BlockStore& store, const std::byte* bytes) const;
  void reserve_tiles(int64_t blocks);
  void resize_tiles(int64_t blocks);
  void drop_before(int64_t first);

  RowBlock layout_, tile_layout_;
  int64_t kv_heads_;
  bool landmarks_;
  std::shared_ptr<BlockStore> memory_, store_;
  int64_t first_ = 0;
  std::deque<Block> complete_;   // blocks first_, first_ + 1, ...
  std::vector<Block> open_;      // the open block and those that the step under way adds
  std::vector<Block> reserved_;  // room in the store for blocks that the step completes
  std::deque<std::vector<std::byte>> tiles_;  // tiles first_tile(), ...
};

}  // namespace mneme
