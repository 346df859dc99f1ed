#include "mneme/kernels/flash_decode.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/core/half.h"
#include "mneme/kernels/flash_cache.h"
#include "mneme/kernels/flash_forward.h"
#include "mneme/kernels/paged_attention.h"

namespace mneme {
namespace {

constexpr const char* kWhat = "kv cache";
constexpr float kNothing = -std::numeric_limits<float>::infinity();

// How the keys of a call are cut: a unit is a page, or a block of keys.
class Splits {
 public:
  Splits(const KvCache& cache, int64_t asked)
      : unit_(cache.block_table == nullptr ? kFlashKeys : cache.capacity), asked_(asked) {}

  int64_t count(const FlashSequence& sequence) const {
    return asked_ > 0 ? asked_ : std::max<int64_t>(1, ceil_div(units(sequence), per(sequence)));
  }
  // Keys [begin, end) of a split that a tile sees, counted from the sequence's first key.
  void keys(const RowTile& tile, int64_t split, int64_t& begin, int64_t& end) const {
    const FlashSequence& sequence = *tile.sequence;
    const int64_t from = split * per(sequence) * unit_ - sequence.k_begin;
    const int64_t to = from + per(sequence) * unit_;
    const int64_t first = std::max<int64_t>(from, 0);
    // In steps from the split's first key, so that the order of sums is the same for every tile.
    begin = first + std::max<int64_t>(0, tile.key_begin - first) / kFlashKeyStep * kFlashKeyStep;
    end = std::min(to, tile.key_end);
    if (begin >= end) begin = end = 0;
  }

 private:
  int64_t units(const FlashSequence& s) const { return ceil_div(s.k_begin + s.k_len, unit_); }
  int64_t per(const FlashSequence& sequence) const {
    if (asked_ > 0) return std::max<int64_t>(1, ceil_div(units(sequence), asked_));
    return std::max<int64_t>(1, kAutoSplitKeys / unit_);
  }

  int64_t unit_, asked_;
};

// Parts of all splits of one tile: o [splits, kFlashRows, D], lse [splits, kFlashRows].
struct TileParts {
  TileParts(float* memory, int64_t splits, int64_t head_dim)
      : dim(head_dim), o(memory), lse(memory + splits * kFlashRows * head_dim) {}
  static int64_t floats(int64_t splits, int64_t dim) {
    return checked_mul(splits, kFlashRows * (dim + 1), kWhat);
  }
  ForwardPart part(int64_t split) const {
    return {o + split * kFlashRows * dim, lse + split * kFlashRows};
  }

  int64_t dim;
  float *o, *lse;
};

void store(const ForwardCall& call, const RowTile& tile, int64_t row, const float* o) {
  const FlashAttention& c = call.plan.config;
  const int64_t at = call.plan.row_offset(call.o.strides, tile, row);
  for (int64_t i = 0; i < c.head_dim; ++i) {
    if (c.dtype == DType::kF32) {
      static_cast<float*>(call.o.data)[at + i] = o[i];
    } else {
      static_cast<uint16_t*>(call.o.data)[at + i] =
          c.dtype == DType::kBF16 ? float_to_bf16(o[i]) : float_to_f16(o[i]);
    }
  }
}

// Merges the splits of a tile, in order, into call.o and call.lse; leaves the first part's o used
// up.
void merge(const ForwardCall& call, const RowTile& tile, int64_t splits, const TileParts& parts) {
  for (int64_t r = 0; r < tile.rows; ++r) {
    float top = kNothing, sum = 0;
    for (int64_t s = 0; s < splits; ++s) top = std::max(top, parts.part(s).lse[r]);
    if (top != kNothing) {
      for (int64_t s = 0; s < splits; ++s) sum += std::exp(parts.part(s).lse[r] - top);
    }
    float* to = parts.part(0).o + r * parts.dim;
    for (int64_t s = 0; s < splits; ++s) {
      const float lse = parts.part(s).lse[r];
      const float weight = lse == kNothing ? 0 : std::exp(lse - top) / sum;
      const float* from = parts.part(s).o + r * parts.dim;
      for (int64_t i = 0; i < parts.dim; ++i) to[i] = (s == 0 ? 0 : to[i]) + weight * from[i];
    }
    store(call, tile, r, to);
    if (call.lse != nullptr) {
      static_cast<float*>(call.lse)[call.plan.lse_at(tile, r)] =
          top == kNothing ? -kNothing : top + std::log(sum);
    }
  }
}

void copy_results(const FlashPlan& plan, const RowTile& tile, int64_t split,
                  const ForwardPart& part, const SplitResults& results) {
  const FlashAttention& c = plan.config;
  for (int64_t r = 0; r < tile.rows; ++r) {
    const int64_t at = split * c.batch * c.q_heads * c.q_len + plan.lse_at(tile, r);
    if (results.lse != nullptr) results.lse[at] = part.lse[r];
    if (results.o != nullptr) {
      std::copy(part.o + r * c.head_dim, part.o + (r + 1) * c.head_dim,
                results.o + at * c.head_dim);
    }
  }
}

}  // namespace

void attention_with_kv_cache(const FlashAttention& config, const ConstHeads& q,
                             const KvCache& cache, const KvAppend& append, const KvRotary& rotary,
                             int64_t splits, const MutableHeads& o, float* lse,
                             const SplitResults& results, AttentionScratch& scratch,
                             ThreadPool& pool) {
  MNEME_CHECK(splits >= 0, "kv cache: splits must not be negative, got ", splits);
  MNEME_CHECK(splits > 0 || (results.o == nullptr && results.lse == nullptr),
              "kv cache: results of splits need a number of splits");
  check_kv_cache(config, cache, append, rotary);
  const FlashPlan plan(config, kv_sequences(config, cache, append));
  append_to_cache(config, cache, append, rotary);
  std::vector<std::byte> turned;
  ForwardCall call{plan, q,  {cache.k.data, cache.k.strides}, {cache.v.data, cache.v.strides},
                   o,    lse};
  if (rotary.half > 0) call.q = turn_queries(config, q, cache, rotary, turned);
  call.table = cache.block_table;
  call.table_stride = cache.table_width;
  call.page_tokens = std::max<int64_t>(1, cache.capacity);

  const Splits cut(cache, splits);
  int64_t most = 1;
  for (const FlashSequence& sequence : plan.sequences) most = std::max(most, cut.count(sequence));
  const int64_t each = forward_tile_floats(plan), parts = TileParts::floats(most, config.head_dim);
  const auto run_split = [&](const RowTile& tile, int64_t split, float* tile_parts, float* memory) {
    const ForwardPart part = TileParts(tile_parts, most, config.head_dim).part(split);
    int64_t begin = 0, end = 0;
    cut.keys(tile, split, begin, end);
    forward_tile(call, tile, begin, end, &part, memory);
    copy_results(plan, tile, split, part, results);
  };
  // With tiles enough to keep the threads busy each does all splits of its tile, in the same
  // memory; with few, the splits are the tasks. The arithmetic is the same.
  const bool by_tile = plan.tiles >= 4 * pool.size();
  const int64_t held = by_tile ? pool.size() : plan.tiles;
  float* memory = scratch.reserve(
      checked_add(checked_mul(each, pool.size(), kWhat), checked_mul(parts, held, kWhat), kWhat));
  float* tile_parts = memory + each * pool.size();
  if (!by_tile) {
    pool.run(plan.tiles * most, [&](int64_t task, int worker) {
      const RowTile tile = plan.tile(task / most);
      if (task % most >= cut.count(*tile.sequence)) return;
      run_split(tile, task % most, tile_parts + task / most * parts, memory + worker * each);
    });
  }
  pool.run(plan.tiles, [&](int64_t index, int worker) {
    const RowTile tile = plan.tile(index);
    const int64_t count = cut.count(*tile.sequence);
    float* own = tile_parts + (by_tile ? worker : index) * parts;
    for (int64_t s = 0; by_tile && s < count; ++s) run_split(tile, s, own, memory + worker * each);
    merge(call, tile, count, TileParts(own, most, config.head_dim));
  });
}

}  // namespace mneme
