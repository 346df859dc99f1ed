#include "mneme/cache/tiered_tokens.h"

#include <algorithm>
#include <cstring>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/core/grown.h"

namespace mneme {

void TierLayout::validate() const {
  rows.validate();
  MNEME_CHECK(block >= 1 && block <= 1 << 16, "tiers: a block must hold 1 to ", 1 << 16,
              " tokens, got ", block);
  MNEME_CHECK(slow_bits == 8 || slow_bits == 4 || slow_bits == 0,
              "tiers: slow tokens have 8 or 4 bits, or 0 for the bytes of fast ones, got ",
              slow_bits);
}

int64_t TierLayout::fast_bytes() const {
  return checked_round_up(block * rows.token_bytes() + RowListAttention::kOverhang, 64, "tiers");
}

int64_t TierLayout::slow_bytes() const {
  return slow_bits == 0 ? block * rows.token_bytes() : quant().bytes();
}

TieredTokens::TieredTokens(const TierLayout& layout, std::shared_ptr<BlockStore> fast,
                           std::shared_ptr<BlockStore> slow)
    : layout_(layout), fast_store_(std::move(fast)), slow_store_(std::move(slow)) {}

void TieredTokens::reserve(int64_t begin, int64_t end) {
  truncate(begin);
  while (slow_end() + std::ssize(fast_) * layout_.block < end)
    fast_.push_back(fast_store_->allocate());
}

void TieredTokens::truncate(int64_t end) {
  const int64_t blocks = std::max<int64_t>(0, ceil_div(end - slow_end(), layout_.block));
  while (std::ssize(fast_) > blocks) fast_.pop_back();
}

std::byte* TieredTokens::writable(int64_t block) {
  Block& held = fast_[static_cast<size_t>(block)];
  if (held.use_count() > 1) {
    Block copy = fast_store_->allocate();
    std::memcpy(copy.get(), held.get(), static_cast<size_t>(layout_.fast_bytes()));
    held = std::move(copy);
  }
  return held.get();
}

void TieredTokens::write(int64_t position, const float* k, const float* v) {
  const int64_t at = position - slow_end();
  layout_.rows.write_token(
      k, v, writable(at / layout_.block) + at % layout_.block * layout_.rows.token_bytes());
}

const std::byte* TieredTokens::fast(int64_t position) const {
  const int64_t at = position - slow_end();
  return fast_[static_cast<size_t>(at / layout_.block)].get() +
         at % layout_.block * layout_.rows.token_bytes();
}

void TieredTokens::load_slow(int64_t position, std::byte* token,
                             std::vector<float>& scratch) const {
  const int64_t at = position - deleted_ * layout_.block, place = at % layout_.block;
  const std::byte* const block = slow_[static_cast<size_t>(at / layout_.block)].get();
  const RowListAttention& rows = layout_.rows;
  if (layout_.slow_bits == 0) {
    std::memcpy(token, block + place * rows.token_bytes(), static_cast<size_t>(rows.token_bytes()));
    return;
  }
  // Channels are all keys, then all values.
  const ChannelQuant quant = layout_.quant();
  float* const values = grown(scratch, quant.channels);
  quant.dequantize(block, place, values);
  rows.write_token(values, values + rows.kv_heads * rows.k_dim, token);
}

TieredTokens::Block TieredTokens::slow_copy(const std::byte* fast) const {
  Block copy = slow_store_->allocate();
  const RowListAttention& rows = layout_.rows;
  if (layout_.slow_bits == 0) {
    std::memcpy(copy.get(), fast, static_cast<size_t>(layout_.slow_bytes()));
    return copy;
  }
  const ChannelQuant quant = layout_.quant();
  std::vector<float> values(static_cast<size_t>(quant.tokens * quant.channels));
  for (int64_t t = 0; t < layout_.block; ++t) {
    float* const k = values.data() + t * quant.channels;
    rows.read_token(fast + t * rows.token_bytes(), k, k + rows.kv_heads * rows.k_dim);
  }
  quant.quantize(values.data(), copy.get());
  return copy;
}

TieredTokens::Blocks TieredTokens::copies_for(const TierPlacement& to) const {
  const int64_t first = deleted_ + std::ssize(slow_);
  const int64_t begin = std::max(first, to.deleted / layout_.block);
  Blocks copies;
  for (int64_t block = begin; block < to.slow_end / layout_.block; ++block)
    copies.push_back(slow_copy(fast_[static_cast<size_t>(block - first)].get()));
  return copies;
}

void TieredTokens::move(const TierPlacement& to, Blocks copies) {
  const int64_t deleted = to.deleted / layout_.block, stored = to.slow_end / layout_.block;
  const int64_t first = deleted_ + std::ssize(slow_);
  MNEME_ASSERT(to.deleted % layout_.block == 0 && to.slow_end % layout_.block == 0 &&
               deleted >= deleted_ && stored >= std::max(first, deleted) &&
               stored - first <= std::ssize(fast_));
  for (int64_t block = first; block < stored; ++block) fast_.pop_front();
  for (; deleted_ < deleted; ++deleted_)
    if (!slow_.empty()) slow_.pop_front();
  for (Block& copy : copies) slow_.push_back(std::move(copy));
}

void TieredTokens::drop_before(int64_t position) {
  for (; !fast_.empty() && (deleted_ + 1) * layout_.block <= position; ++deleted_)
    fast_.pop_front();
}

void TieredTokens::begin_loading(int64_t deleted) {
  slow_.clear();
  fast_.clear();
  deleted_ = deleted / layout_.block;
}

void TieredTokens::load_slow_block(const std::byte* bytes) {
  slow_.push_back(slow_store_->allocate());
  std::memcpy(slow_.back().get(), bytes, static_cast<size_t>(layout_.slow_bytes()));
}

void TieredTokens::load_fast_block(const std::byte* bytes) {
  fast_.push_back(fast_store_->allocate());
  std::memcpy(fast_.back().get(), bytes, static_cast<size_t>(layout_.fast_bytes()));
}

int64_t TieredTokens::bytes_of(int64_t fast_blocks, int64_t slow_blocks) const {
  constexpr auto kHandle = static_cast<int64_t>(sizeof(Block));
  return fast_blocks * (fast_store_->resident_block_bytes() + kHandle) +
         slow_blocks * (slow_store_->resident_block_bytes() + kHandle);
}

int64_t TieredTokens::resident_bytes() const {
  return bytes_of(std::ssize(fast_), std::ssize(slow_));
}

}  // namespace mneme
