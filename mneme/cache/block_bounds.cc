#include "mneme/cache/block_bounds.h"

#include <algorithm>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"

namespace mneme {

BlockBounds::BlockBounds(int64_t dim, int64_t block) : dim_(dim), block_(block) {
  MNEME_CHECK(dim > 0, "block bounds: a key must have channels, got ", dim);
  MNEME_CHECK(block > 0, "block bounds: a block must hold rows, got ", block);
}

float* BlockBounds::writable(int64_t chunk) {
  if (chunk == std::ssize(chunks_))
    chunks_.push_back(std::make_shared<float[]>(static_cast<size_t>(chunk_floats())));
  Chunk& held = chunks_[static_cast<size_t>(chunk)];
  if (held.use_count() > 1) {
    Chunk copy = std::make_shared<float[]>(static_cast<size_t>(chunk_floats()));
    std::copy_n(held.get(), chunk_floats(), copy.get());
    held = std::move(copy);
  }
  return held.get();
}

void BlockBounds::follow(const PagedRows& rows, int64_t unchanged) {
  MNEME_CHECK(rows.slots() == rows.rows(), "block bounds: ", rows.slots() - rows.rows(),
              " rows are hidden, expected none");
  MNEME_CHECK(unchanged >= 0 && unchanged <= rows.rows(), "block bounds: expected 0 to ",
              rows.rows(), " rows that did not change, got ", unchanged);
  // Nobody can narrow a bound: a block that lost rows begins anew.
  if (unchanged < counted_) counted_ = unchanged / block_ * block_;
  thread_local std::vector<float> key;
  key.resize(static_cast<size_t>(dim_));
  for (; counted_ < rows.rows(); ++counted_) {
    rows.read(counted_, key.data(), nullptr);
    const int64_t at = counted_ / block_;
    float* lo = writable(at / kChunkBlocks) + at % kChunkBlocks;
    float* hi = lo + dim_ * kChunkBlocks;
    const bool first = counted_ % block_ == 0;
    for (const float value : key) {
      *lo = first ? value : std::min(*lo, value);
      *hi = first ? value : std::max(*hi, value);
      lo += kChunkBlocks;
      hi += kChunkBlocks;
    }
  }
  chunks_.resize(static_cast<size_t>(ceil_div(blocks(), kChunkBlocks)));
}

void BlockBounds::forget() {
  counted_ = 0;
  chunks_.clear();
}

void BlockBounds::raise(const float* q, std::span<float> scores) const {
  MNEME_CHECK(std::ssize(scores) == blocks(), "block bounds: expected ", blocks(), " scores, got ",
              scores.size());
  for (size_t chunk = 0; chunk < chunks_.size(); ++chunk) {
    const float* lo = chunks_[chunk].get();
    const float* hi = lo + dim_ * kChunkBlocks;
    float bounds[kChunkBlocks] = {};
    for (int64_t d = 0; d < dim_; ++d) {
      // The larger of q lo and q hi is known by q's sign.
      const float* larger = (q[d] < 0 ? lo : hi) + d * kChunkBlocks;
      for (int64_t i = 0; i < kChunkBlocks; ++i) bounds[i] += q[d] * larger[i];
    }
    const auto part = scores.subspan(chunk * kChunkBlocks);
    for (size_t i = 0; i < std::min<size_t>(part.size(), kChunkBlocks); ++i)
      if (bounds[i] > part[i]) part[i] = bounds[i];
  }
}

int64_t BlockBounds::bytes() const {
  return std::ssize(chunks_) * (chunk_floats() * int64_t{sizeof(float)} + int64_t{sizeof(Chunk)});
}

int64_t BlockBounds::bytes_for(int64_t dim, int64_t block, int64_t rows) {
  const BlockBounds none(dim, block);
  return ceil_div(ceil_div(rows, block), kChunkBlocks) *
         (none.chunk_floats() * int64_t{sizeof(float)} + int64_t{sizeof(Chunk)});
}

}  // namespace mneme
