#include "mneme/cache/block_rows.h"

#include <algorithm>
#include <cstring>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"

namespace mneme {

BlockRows::BlockRows(RowBlock layout, int64_t kv_heads, bool landmarks,
                     std::shared_ptr<BlockStore> memory, std::shared_ptr<BlockStore> store)
    : layout_(layout),
      tile_layout_{.rows = kTileBlocks, .k_dim = layout.k_dim},
      kv_heads_(kv_heads),
      landmarks_(landmarks),
      memory_(std::move(memory)),
      store_(std::move(store)) {
  MNEME_ASSERT(memory_->block_bytes() == kv_heads_ * layout_.bytes());
  MNEME_ASSERT(store_->block_bytes() == memory_->block_bytes());
}

void BlockRows::reserve(int64_t begin, int64_t end) {
  MNEME_ASSERT(open_.size() <= 1 && begin / layout_.rows == complete_blocks());
  // An open block that a fork holds too is written to in a copy.
  if (!open_.empty() && open_.front().use_count() > 1)
    open_.front() = copy_into(*memory_, open_.front().get());
  const int64_t needed = ceil_div(end, layout_.rows) - complete_blocks();
  while (std::ssize(open_) < needed) {
    open_.push_back(memory_->allocate());
    std::memset(open_.back().get(), 0, static_cast<size_t>(memory_->block_bytes()));
  }
  const int64_t completed = end / layout_.rows - complete_blocks();
  if (store_ != memory_) {
    while (std::ssize(reserved_) < completed) reserved_.push_back(store_->allocate());
  }
  reserve_tiles(end / layout_.rows);
}

void BlockRows::reserve_tiles(int64_t blocks) {
  if (!landmarks_) return;
  while (first_tile() + std::ssize(tiles_) < ceil_div(blocks, kTileBlocks))
    tiles_.emplace_back(static_cast<size_t>(tile_bytes()));
}

const std::byte* BlockRows::whole(int64_t block) const {
  const int64_t at = block - first_;
  const auto held = std::ssize(complete_);
  MNEME_ASSERT(at >= 0 && at < held + std::ssize(open_));
  return at < held ? complete_[static_cast<size_t>(at)].get()
                   : open_[static_cast<size_t>(at - held)].get();
}

std::byte* BlockRows::open_block(int64_t block, int64_t head) {
  const int64_t at = block - complete_blocks();
  MNEME_ASSERT(at >= 0 && at < std::ssize(open_));
  return open_[static_cast<size_t>(at)].get() + head * layout_.bytes();
}

const std::byte* BlockRows::tile(int64_t tile, int64_t head) const {
  const int64_t at = tile - first_tile();
  MNEME_ASSERT(at >= 0 && at < std::ssize(tiles_));
  return tiles_[static_cast<size_t>(at)].data() + head * tile_layout_.bytes();
}

void BlockRows::write_landmark(int64_t block, int64_t head, const float* key) {
  const int64_t at = block / kTileBlocks - first_tile();
  MNEME_ASSERT(landmarks_ && at >= 0 && at < std::ssize(tiles_));
  tile_layout_.write_row(block % kTileBlocks, key, nullptr,
                         tiles_[static_cast<size_t>(at)].data() + head * tile_layout_.bytes());
}

void BlockRows::commit(int64_t end, int64_t first) {
  const int64_t completed = end / layout_.rows - complete_blocks();
  for (int64_t i = 0; i < completed; ++i) {
    Block block = std::move(open_[static_cast<size_t>(i)]);
    if (store_ != memory_) {
      Block stored = std::move(reserved_[static_cast<size_t>(i)]);
      std::memcpy(stored.get(), block.get(), static_cast<size_t>(store_->block_bytes()));
      block = std::move(stored);
    }
    complete_.push_back(std::move(block));
  }
  open_.erase(open_.begin(), open_.begin() + completed);
  reserved_.clear();
  drop_before(first);
}

void BlockRows::drop_before(int64_t first) {
  const int64_t tile_before = first_tile();
  while (first_ < first && !complete_.empty()) {
    complete_.pop_front();
    ++first_;
  }
  for (int64_t i = tile_before; i < first_tile() && !tiles_.empty(); ++i) tiles_.pop_front();
}

void BlockRows::abort(int64_t end) {
  open_.resize(std::min<size_t>(open_.size(), end % layout_.rows > 0 ? 1 : 0));
  reserved_.clear();
  resize_tiles(end / layout_.rows);
}

void BlockRows::resize_tiles(int64_t blocks) {
  const int64_t tiles = std::max<int64_t>(0, ceil_div(blocks, kTileBlocks) - first_tile());
  if (tiles < std::ssize(tiles_)) tiles_.resize(static_cast<size_t>(tiles));
}

void BlockRows::trim(int64_t end) {
  const int64_t blocks = end / layout_.rows;
  const bool has_open = end % layout_.rows > 0;
  if (blocks < complete_blocks()) {
    open_.clear();
    if (has_open) open_.push_back(copy_into(*memory_, whole(blocks)));
    complete_.resize(static_cast<size_t>(std::max<int64_t>(0, blocks - first_)));
  } else if (!has_open) {
    open_.clear();
  }
  resize_tiles(blocks);
}

void BlockRows::clear() {
  first_ = 0;
  complete_.clear();
  open_.clear();
  reserved_.clear();
  tiles_.clear();
}

BlockRows::Block BlockRows::copy_into(BlockStore& store, const std::byte* bytes) const {
  Block copy = store.allocate();
  std::memcpy(copy.get(), bytes, static_cast<size_t>(store.block_bytes()));
  return copy;
}

void BlockRows::load_complete(const std::byte* bytes) {
  complete_.push_back(copy_into(*store_, bytes));
  reserve_tiles(complete_blocks());
}

void BlockRows::load_open(const std::byte* bytes) { open_.push_back(copy_into(*memory_, bytes)); }

int64_t BlockRows::resident_bytes() const {
  return std::ssize(complete_) * complete_bytes() + std::ssize(open_) * open_bytes() +
         std::ssize(tiles_) * tile_bytes();
}

int64_t BlockRows::bytes_at(int64_t end, int64_t first) const {
  const int64_t blocks = end / layout_.rows;
  const int64_t tiles = ceil_div(blocks, kTileBlocks) - first / kTileBlocks;
  return (blocks - first) * complete_bytes() + (end % layout_.rows > 0 ? open_bytes() : 0) +
         (landmarks_ ? tiles * tile_bytes() : 0);
}

int64_t BlockRows::bytes_reserved(int64_t end) const {
  const int64_t open = ceil_div(end, layout_.rows) - complete_blocks();
  const int64_t tiles = ceil_div(end / layout_.rows, kTileBlocks) - first_tile();
  return std::ssize(complete_) * complete_bytes() + open * open_bytes() +
         (landmarks_ ? tiles * tile_bytes() : 0);
}

}  // namespace mneme
