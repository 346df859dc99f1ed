#include "mneme/kernels/flash_forward.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/kernels/paged_attention.h"
#include "mneme/kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "mneme/kernels/flash_forward.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "mneme/kernels/flash_mask-inl.h"
#include "mneme/kernels/flash_pack-inl.h"

#ifndef MNEME_KERNELS_FLASH_FORWARD_CC_ONCE_
#define MNEME_KERNELS_FLASH_FORWARD_CC_ONCE_
namespace mneme {

struct ForwardMemory {
  ForwardMemory(const FlashPlan& plan, FloatCarver& carver)
      : width((plan.config.head_dim + 15) / 16 * 16),
        rows(carver.take(kFlashRows * width)),
        q(carver.take(kFlashRows * width)),
        o(carver.take(kFlashRows * width)),
        scores(carver.take(kFlashKeys * kFlashRows)),
        keys(carver.take(kFlashKeys * width)),
        values(carver.take(kFlashKeys * width)),
        max(carver.take(kFlashRows)),
        sum(carver.take(kFlashRows)),
        decay(carver.take(kFlashRows)) {}

  int64_t width;  // head_dim rounded up to whole vectors
  float* rows;    // [kFlashRows, width]: queries on the way in, results on the way out
  float* q;       // [width, kFlashRows]
  float* o;       // [width, kFlashRows], not yet divided by the sums
  float* scores;  // [kFlashKeys, kFlashRows]
  float* keys;    // [kFlashKeys, width], where they cannot be read in place
  float* values;  // [kFlashKeys, width]
  float* max;     // [kFlashRows]
  float* sum;     // [kFlashRows] of e^(score - max)
  float* decay;   // [kFlashRows]: what the sums so far are worth under the new maximum
};

}  // namespace mneme
#endif

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {

constexpr float kNothing = -std::numeric_limits<float>::infinity();

// Scores to weights e^(score - max), with the running maximum and sum of each row.
HWY_INLINE void weigh(const ScoreBlock& block, const ForwardMemory& memory) {
  const Floats d;
  for (int64_t v = 0; v < block.width; v += kLanes) {
    float* column = block.scores + v;
    const auto at = [&](int64_t j) HWY_ATTR { return hn::LoadU(d, column + j * kFlashRows); };
    const FloatVector before = hn::Load(d, memory.max + v);
    FloatVector max[4] = {before, before, before, before};
    int64_t j = 0;
    for (; j + 4 <= block.keys; j += 4) {
      HWY_UNROLL(4)
      for (int64_t i = 0; i < 4; ++i) max[i] = hn::Max(at(j + i), max[i]);
    }
    for (; j < block.keys; ++j) max[0] = hn::Max(at(j), max[0]);
    const FloatVector top = hn::Max(hn::Max(max[0], max[1]), hn::Max(max[2], max[3]));
    // Where nothing is seen yet, infinity minus infinity must not arise.
    const FloatVector shift = hn::IfThenElse(hn::Eq(top, hn::Set(d, kNothing)), hn::Zero(d), top);
    FloatVector sum[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
    for (j = 0; j + 4 <= block.keys; j += 4) {
      HWY_UNROLL(4)
      for (int64_t i = 0; i < 4; ++i) {
        const FloatVector weight = exp_of(hn::Sub(at(j + i), shift));
        sum[i] = hn::Add(sum[i], weight);
        hn::StoreU(weight, d, column + (j + i) * kFlashRows);
      }
    }
    for (int64_t i = 0; j + i < block.keys; ++i) {
      const FloatVector weight = exp_of(hn::Sub(at(j + i), shift));
      sum[i] = hn::Add(sum[i], weight);
      hn::StoreU(weight, d, column + (j + i) * kFlashRows);
    }
    const FloatVector decay = exp_of(hn::Sub(before, shift));
    const FloatVector added = hn::Add(hn::Add(sum[0], sum[1]), hn::Add(sum[2], sum[3]));
    hn::Store(decay, d, memory.decay + v);
    hn::Store(top, d, memory.max + v);
    hn::Store(hn::MulAdd(hn::Load(d, memory.sum + v), decay, added), d, memory.sum + v);
  }
}

HWY_INLINE void drop(const ScoreBlock& block, const RowLanes& lanes, const FlashPlan& plan) {
  const Floats d;
  for_each_kept(block, lanes, plan, [&](int64_t at, auto keep) HWY_ATTR {
    const FloatVector weight = hn::LoadU(d, block.scores + at);
    hn::StoreU(hn::IfThenElseZero(keep, weight), d, block.scores + at);
  });
}

template <class T, WordKind kKind>
struct Forward {
  using Stored = typename T::Stored;

  const ForwardCall& call;
  const RowTile& tile;
  const ForwardMemory& memory;
  const FlashPlan& plan = call.plan;
  const int64_t dim = plan.config.head_dim;
  const int64_t words = words_of<kKind>(dim);
  const int64_t width = (tile.rows + kLanes - 1) / kLanes * kLanes;

  const Stored* key(const ConstHeads& heads, int64_t j) const {
    return static_cast<const Stored*>(heads.data) +
           call.key_offset(heads.strides, *tile.sequence, tile.kv_head, j);
  }

  void load_queries() const {
    for (int64_t r = 0; r < width; ++r) {
      float* row = memory.rows + r * memory.width;
      if (r < tile.rows) {
        const auto* from =
            static_cast<const Stored*>(call.q.data) + plan.row_offset(call.q.strides, tile, r);
        load_row<T, kKind>(from, dim, memory.width, row);
      } else {
        std::fill(row, row + memory.width, 0.0f);
      }
    }
    transpose_words(memory.rows, memory.width, width, words, memory.q, kFlashRows);
  }

  void score(const ScoreBlock& block, const RowLanes& lanes) const {
    const float* keys = memory.keys;
    int64_t stride = memory.width;
    const Stored* first = key(call.k, block.first);
    constexpr int64_t kPerWord = kKind == WordKind::kBF16Pair ? 2 : 1;
    const bool in_place = call.table == nullptr && sizeof(Stored) * kPerWord == sizeof(float) &&
                          (call.k.strides.token | dim) % kPerWord == 0 &&
                          reinterpret_cast<uintptr_t>(first) % sizeof(float) == 0;
    if (in_place) {
      keys = reinterpret_cast<const float*>(first);
      stride = call.k.strides.token / kPerWord;
    } else {
      for (int64_t j = 0; j < block.keys; ++j) {
        load_row<T, kKind>(key(call.k, block.first + j), dim, words, memory.keys + j * stride);
      }
    }
    product<kKind, Broadcast::kRows>(keys, stride, block.keys, words, memory.q, kFlashRows, width,
                                     {.factor = plan.factor}, block.scores, kFlashRows);
    if (plan.cap > 0) cap_scores(block, plan.cap);
    if (plan.config.alibi_slopes != nullptr) add_alibi(block, lanes);
    if (!tile.all_see(block.first, block.first + block.keys)) mask_scores(block, lanes);
  }

  void add_values(const ScoreBlock& block, bool first) const {
    const float* values = memory.values;
    int64_t stride = memory.width;
    int64_t depth = block.keys;
    if constexpr (kKind == WordKind::kBF16Pair) {
      depth = (block.keys + 1) / 2;
      for (int64_t j = 0; j < block.keys; j += 2) {
        const bool pair = j + 1 < block.keys;
        pair_rows(key(call.v, block.first + j), pair ? key(call.v, block.first + j + 1) : nullptr,
                  dim, dim, memory.values + j / 2 * stride);
      }
      pair_weights(block.scores, block.keys, width);
    } else if (std::is_same_v<T, F32> && call.table == nullptr) {
      values = reinterpret_cast<const float*>(key(call.v, block.first));
      stride = call.v.strides.token;
    } else {
      for (int64_t j = 0; j < block.keys; ++j) {
        load_row<T, kKind>(key(call.v, block.first + j), dim, dim, memory.values + j * stride);
      }
    }
    product<kKind, Broadcast::kColumns>(values, stride, dim, depth, block.scores, kFlashRows, width,
                                        {.column_factors = memory.decay, .keep = !first}, memory.o,
                                        kFlashRows);
  }

  void finish(const ForwardPart* part, bool seen) const {
    const Floats d;
    for (int64_t v = 0; v < width; v += kLanes) {
      const FloatVector sum = hn::Load(d, memory.sum + v);
      const FloatVector scale =
          hn::IfThenZeroElse(hn::Eq(sum, hn::Zero(d)), hn::Div(hn::Set(d, plan.keep_scale), sum));
      for (int64_t i = 0; i < dim; ++i) {
        float* at = memory.o + i * kFlashRows + v;
        // Adding 0 makes a negative zero positive, whose sign depends on the masked keys around.
        hn::StoreU(seen ? hn::MulAdd(hn::LoadU(d, at), scale, hn::Zero(d)) : hn::Zero(d), d, at);
      }
    }
    transpose_words(memory.o, kFlashRows, dim, width, memory.rows, memory.width);
    for (int64_t r = 0; r < tile.rows; ++r) {
      const float sum = memory.sum[r];
      const float nothing = part != nullptr ? kNothing : -kNothing;
      const float lse = sum == 0 ? nothing : memory.max[r] + std::log(sum);
      const float* row = memory.rows + r * memory.width;
      if (part != nullptr) {
        std::copy(row, row + dim, part->o + r * dim);
        part->lse[r] = lse;
        continue;
      }
      store_row<T>(row, dim, 1,
                   static_cast<Stored*>(call.o.data) + plan.row_offset(call.o.strides, tile, r));
      if (call.lse != nullptr) static_cast<float*>(call.lse)[plan.lse_at(tile, r)] = lse;
    }
  }

  void run(int64_t begin, int64_t end, const ForwardPart* part) const {
    std::fill(memory.max, memory.max + kFlashRows, kNothing);
    std::fill(memory.sum, memory.sum + kFlashRows, 0.0f);
    if (begin < end) {
      RowLanes lanes;
      plan.fill_lanes(tile, lanes);
      load_queries();
      for (int64_t at = begin; at < end;) {
        const int64_t stop = std::min(end, (at / kFlashKeys + 1) * kFlashKeys);
        const ScoreBlock block{memory.scores, at, stop - at, width};
        score(block, lanes);
        weigh(block, memory);
        if (plan.config.dropout > 0) drop(block, lanes, plan);
        add_values(block, at == begin);
        at = stop;
      }
    }
    finish(part, begin < end);
  }
};

void ForwardTile(const ForwardCall& call, const RowTile& tile, int64_t begin, int64_t end,
                 const ForwardPart* part, float* floats) {
  FloatCarver carver(floats);
  const ForwardMemory memory(call.plan, carver);
  switch (call.plan.config.dtype) {
    case DType::kF32:
      return Forward<F32, WordKind::kFloat>{call, tile, memory}.run(begin, end, part);
    case DType::kF16:
      return Forward<F16, WordKind::kFloat>{call, tile, memory}.run(begin, end, part);
    default:
#if MNEME_BF16_WORDS
      if (call.plan.config.bf16_products && machine_multiplies_bf16()) {
        return Forward<BF16, WordKind::kBF16Pair>{call, tile, memory}.run(begin, end, part);
      }
#endif
      return Forward<BF16, WordKind::kFloat>{call, tile, memory}.run(begin, end, part);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme {

HWY_EXPORT(ForwardTile);

int64_t forward_tile_floats(const FlashPlan& plan) {
  FloatCarver carver(nullptr);
  const ForwardMemory memory(plan, carver);
  return carver.used();
}

void forward_tile(const ForwardCall& call, const RowTile& tile, int64_t begin, int64_t end,
                  const ForwardPart* part, float* memory) {
  HWY_DYNAMIC_DISPATCH(ForwardTile)(call, tile, begin, end, part, memory);
}

void flash_forward(const FlashAttention& config, const ConstHeads& q, const ConstHeads& k,
                   const ConstHeads& v, const MutableHeads& o, void* lse, AttentionScratch& scratch,
                   ThreadPool& pool) {
  const FlashPlan plan(config);
  const ForwardCall call{plan, q, k, v, o, lse};
  if (config.dtype == DType::kF64) return forward_double(call, scratch, pool);
  const int64_t floats = forward_tile_floats(plan);
  float* memory = scratch.reserve(checked_mul(floats, pool.size(), "flash attention"));
  pool.run(plan.tiles, [&](int64_t index, int worker) {
    const RowTile tile = plan.tile(index);
    forward_tile(call, tile, tile.key_begin, tile.key_end, nullptr, memory + worker * floats);
  });
}

}  // namespace mneme
#endif
