// The tokens of one layer in three tiers, in blocks of a fixed number of positions: the newest as they
// were written, older ones quantised (channel_quant.h) in memory or in a file, the oldest gone. What
// alisa_memory.h reads. A token is one run of bytes, all its KV heads (row_list_attention.h).
//
//   [0, deleted) gone | [deleted, slow_end) slow blocks | [slow_end, end) fast blocks
//
// Both borders are multiples of the block and only grow. Forks share blocks; the newest one, which is
// still written, is copied first. Tests: tiered_tokens_test.cc.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "mneme/cache/block_store.h"
#include "mneme/kernels/channel_quant.h"
#include "mneme/kernels/row_list_attention.h"
#include "mneme/simulate/tier_schedule.h"

namespace mneme {

struct TierLayout {
  RowListAttention rows;  // of a token in the fast tier
  int64_t block = 64;     // tokens
  int64_t slow_bits = 8;  // 8 or 4; 0: slow tokens keep the bytes of fast ones

  void validate() const;
  int64_t fast_bytes() const;  // of a block
  int64_t slow_bytes() const;
  ChannelQuant quant() const {
    return {slow_bits, block, rows.kv_heads * (rows.k_dim + rows.v_dim)};
  }
};

class TieredTokens {
 public:
  // `fast` and `slow` hold blocks of fast_bytes() and slow_bytes().
  TieredTokens(const TierLayout& layout, std::shared_ptr<BlockStore> fast,
               std::shared_ptr<BlockStore> slow);

  TierPlacement placement() const { return {slow_end(), deleted_ * layout_.block}; }
  int64_t slow_end() const { return (deleted_ + std::ssize(slow_)) * layout_.block; }

  // Room for positions [begin, end), begin being where the tokens end.
  void reserve(int64_t begin, int64_t end);
  // k [kv_heads, k_dim], v [kv_heads, v_dim]; the position has been reserved. Throws Error on a
  // number that cannot be stored.
  void write(int64_t position, const float* k, const float* v);
  // Drops room for positions >= end.
  void truncate(int64_t end);

  // A token of the fast tier.
  const std::byte* fast(int64_t position) const;
  // A token of the slow tier as a fast one would lie: token [rows.token_bytes()].
  void load_slow(int64_t position, std::byte* token, std::vector<float>& scratch) const;

  // Moves complete blocks: tokens before slow_end go to the slow tier, unless they are before
  // `deleted` and gone. Two steps, so that many layers move or none: copies for the slow tier first,
  // which throws Error when its store has no room and changes nothing.
  using Blocks = std::vector<std::shared_ptr<std::byte>>;
  Blocks copies_for(const TierPlacement& to) const;
  void move(const TierPlacement& to, Blocks copies);
  // Drops fast blocks before `position` that are whole, as deleted ones: for layers with a window.
  void drop_before(int64_t position);

  // For files: blocks as they lie, and back. `block` counts from the tier's first.
  int64_t slow_blocks() const { return std::ssize(slow_); }
  int64_t fast_blocks() const { return std::ssize(fast_); }
  const std::byte* slow_block(int64_t block) const {
    return slow_[static_cast<size_t>(block)].get();
  }
  const std::byte* fast_block(int64_t block) const {
    return fast_[static_cast<size_t>(block)].get();
  }
  void begin_loading(int64_t deleted);
  void load_slow_block(const std::byte* bytes);
  void load_fast_block(const std::byte* bytes);

  int64_t resident_bytes() const;
  int64_t bytes_of(int64_t fast_blocks, int64_t slow_blocks) const;

 private:
  using Block = std::shared_ptr<std::byte>;
  std::byte* writable(int64_t block);
  Block slow_copy(const std::byte* fast) const;

  TierLayout layout_;
  std::shared_ptr<BlockStore> fast_store_, slow_store_;
  int64_t deleted_ = 0;  // blocks
  std::deque<Block> slow_, fast_;
};

}  // namespace mneme
