#include "mneme/kernels/flash_backward.h"

#include <algorithm>
#include <limits>
#include <thread>
#include <type_traits>

#include "mneme/kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "mneme/kernels/flash_backward.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "mneme/kernels/flash_gradient-inl.h"
#include "mneme/kernels/flash_pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {

template <class T, WordKind kKind>
struct Backward {
  using Stored = typename T::Stored;
  static constexpr bool kPairs = kKind == WordKind::kBF16Pair;

  const BackwardCall& call;
  const KeyTask& task;
  const BackwardMemory& memory;
  const FlashPlan& plan = call.plan;
  const FlashSequence& sequence = *task.sequence;
  const int64_t dim = plan.config.head_dim;
  const int64_t words = words_of<kKind>(dim);
  const int64_t block_keys = task_keys(sequence);
  const int64_t first = task.block * block_keys;
  const int64_t count = std::min(block_keys, sequence.k_len - first);
  const float *keys = memory.keys, *values = memory.values;  // rows of words
  int64_t key_stride = memory.width, value_stride = memory.width;

  const Stored* row(const ConstHeads& heads, const RowTile& tile, int64_t r) const {
    return static_cast<const Stored*>(heads.data) + plan.row_offset(heads.strides, tile, r);
  }
  const Stored* key(const ConstHeads& heads, int64_t j) const {
    return static_cast<const Stored*>(heads.data) +
           FlashPlan::key_offset(heads.strides, sequence, task.kv_head, j);
  }

  void load_keys() {
    if constexpr (std::is_same_v<T, F32>) {
      keys = key(call.k, first);
      values = key(call.v, first);
      key_stride = call.k.strides.token;
      value_stride = call.v.strides.token;
    } else {
      for (int64_t j = 0; j < count; ++j) {
        load_row<T, kKind>(key(call.k, first + j), dim, words, memory.keys + j * memory.width);
        load_row<T, kKind>(key(call.v, first + j), dim, words, memory.values + j * memory.width);
      }
    }
    if constexpr (kPairs) {
      for (int64_t j = 0; j < count; j += 2) {
        pair_rows(key(call.k, first + j), j + 1 < count ? key(call.k, first + j + 1) : nullptr, dim,
                  dim, memory.key_pairs + j / 2 * memory.width);
      }
    }
  }

  // Rows of queries or of dout: in columns for the products with keys, in rows for those with
  // weights.
  void load_rows(const ConstHeads& heads, const RowTile& tile, int64_t width, float* rows,
                 float* columns) const {
    for (int64_t r = 0; r < width; ++r) {
      float* to = rows + r * memory.width;
      if (r < tile.rows) {
        load_row<T, kKind>(row(heads, tile, r), dim, memory.width, to);
      } else {
        std::fill(to, to + memory.width, 0.0f);
      }
    }
    transpose_words(rows, memory.width, width, words, columns, kFlashRows);
    if constexpr (kPairs) {
      for (int64_t r = 0; r < tile.rows; r += 2) {
        pair_rows(row(heads, tile, r), r + 1 < tile.rows ? row(heads, tile, r + 1) : nullptr, dim,
                  memory.width, rows + r / 2 * memory.width);
      }
    }
  }

  void load_tile(const RowTile& tile, int64_t width, TileRows& rows) const {
    plan.fill_lanes(tile, rows.lanes);
    const auto* lse = static_cast<const float*>(call.lse);
    for (int64_t r = 0; r < kFlashRows; ++r) {
      rows.lse[r] =
          r < tile.rows ? lse[plan.lse_at(tile, r)] : std::numeric_limits<float>::infinity();
    }
    if constexpr (!kPairs) load_rows(call.o, tile, width, memory.q_rows, memory.o);
    load_rows(call.q, tile, width, memory.q_rows, memory.q);
    load_rows(call.dout, tile, width, memory.dout_rows, memory.dout);
  }

  // Weights, and gradients of scores, of the keys of `block`.
  void weigh(const RowTile& tile, const ScoreBlock& block, const TileRows& rows,
             const float* deltas) const {
    const int64_t skip = block.first - first;
    product<kKind, Broadcast::kRows>(keys + skip * key_stride, key_stride, block.keys, words,
                                     memory.q, kFlashRows, block.width, {.factor = plan.factor},
                                     block.scores, kFlashRows);
    const float* of_values = values + skip * value_stride;
    if constexpr (kPairs) {
      product<kKind, Broadcast::kRows>(of_values, value_stride, block.keys, words, memory.dout,
                                       kFlashRows, block.width, {}, memory.slopes, kFlashRows);
    } else {
      // dout . v less delta = dout . o: where one key has nearly all of the weight, v is nearly o.
      difference_product(of_values, value_stride, block.keys, dim, memory.o, memory.dout,
                         kFlashRows, block.width, memory.slopes, kFlashRows);
    }
    if (plan.cap > 0) {
      bend_scores(block, memory.bends);
      cap_scores(block, plan.cap);
    }
    if (plan.config.alibi_slopes != nullptr) add_alibi(block, rows.lanes);
    if (!tile.all_see(block.first, block.first + block.keys)) mask_scores(block, rows.lanes);
    differentiate<!kPairs>(block, memory, rows, deltas, plan);
  }

  // d [keys, width] += weights [keys, rows] * rows [rows, width].
  void add_to_keys(const float* weights, const RowTile& tile, const ScoreBlock& block,
                   const float* rows, float* sums) const {
    const float* factors = weights;
    int64_t depth = tile.rows;
    if constexpr (kPairs) {
      narrow_rows(weights, block.keys, block.width, memory.narrow);
      factors = memory.narrow;
      depth = (tile.rows + 1) / 2;
    }
    product<kKind, Broadcast::kRows>(factors, kFlashRows, block.keys, depth, rows, memory.width,
                                     memory.width, {.keep = true},
                                     sums + (block.first - first) * memory.width, memory.width);
  }

  void add_to_queries(const RowTile& tile, const ScoreBlock& block, int64_t number) const {
    const int64_t index = plan.index_of(sequence, task.kv_head, number);
    const auto turn = static_cast<int32_t>(task.block - tile.key_begin / block_keys);
    const float* factors = keys + (block.first - first) * key_stride;
    int64_t stride = key_stride, depth = block.keys;
    if constexpr (kPairs) {
      pair_weights(memory.slopes, block.keys, block.width);
      factors = memory.key_pairs + (block.first - first) / 2 * memory.width;
      stride = memory.width;
      depth = (block.keys + 1) / 2;
    }
    std::atomic<int32_t>& turns = call.turns[index];
    for (int spin = 0; turns.load(std::memory_order_acquire) != turn; ++spin) {
      // Tasks are claimed in order of their blocks, so whoever is waited for is at work.
      if (spin > 1000) std::this_thread::yield();
    }
    float* sums = call.dq_sums + index * call.sum_floats();
    product<kKind, Broadcast::kColumns>(factors, stride, dim, depth, memory.slopes, kFlashRows,
                                        block.width, {.keep = turn != 0}, sums, kFlashRows);
    if ((tile.key_end - 1) / block_keys == task.block) {
      transpose_words(sums, kFlashRows, dim, block.width, memory.q_rows, memory.width);
      for (int64_t r = 0; r < tile.rows; ++r) {
        store_row<T>(
            memory.q_rows + r * memory.width, dim, static_cast<float>(plan.config.scale),
            static_cast<Stored*>(call.dq.data) + plan.row_offset(call.dq.strides, tile, r));
      }
    }
    turns.store(turn + 1, std::memory_order_release);
  }

  void run() {
    load_keys();
    std::fill(memory.dk, memory.dk + count * memory.width, 0.0f);
    std::fill(memory.dv, memory.dv + count * memory.width, 0.0f);
    TileRows rows;
    // From the last tile, which every block of a causal mask is seen by: no task begins by waiting.
    for (int64_t number = plan.tiles_of(sequence) - 1; number >= 0; --number) {
      const RowTile tile = plan.tile_of(sequence, task.kv_head, number);
      const int64_t begin = std::max(tile.key_begin, first);
      const int64_t end = std::min(tile.key_end, first + count);
      if (begin >= end) continue;
      const int64_t width = (tile.rows + kLanes - 1) / kLanes * kLanes;
      const ScoreBlock block{memory.weights, begin, end - begin, width};
      const float* deltas =
          call.deltas + plan.index_of(sequence, task.kv_head, number) * kFlashRows;
      load_tile(tile, width, rows);
      weigh(tile, block, rows, deltas);
      add_to_keys(memory.weights, tile, block, memory.dout_rows, memory.dv);
      add_to_keys(memory.slopes, tile, block, memory.q_rows, memory.dk);
      add_to_queries(tile, block, number);
    }
    for (int64_t j = 0; j < count; ++j) {
      const auto at = [&](const MutableHeads& heads) {
        return static_cast<Stored*>(heads.data) +
               FlashPlan::key_offset(heads.strides, sequence, task.kv_head, first + j);
      };
      store_row<T>(memory.dk + j * memory.width, dim, static_cast<float>(plan.config.scale),
                   at(call.dk));
      store_row<T>(memory.dv + j * memory.width, dim, 1, at(call.dv));
    }
  }
};

void BackwardKeys(const BackwardCall& call, const KeyTask& task, float* floats) {
  FloatCarver carver(floats);
  const BackwardMemory memory(call.plan, carver);
  switch (call.plan.config.dtype) {
    case DType::kF32:
      return Backward<F32, WordKind::kFloat>{call, task, memory}.run();
    case DType::kF16:
      return Backward<F16, WordKind::kFloat>{call, task, memory}.run();
    default:
#if MNEME_BF16_WORDS
      if (call.plan.config.bf16_products && machine_multiplies_bf16()) {
        return Backward<BF16, WordKind::kBF16Pair>{call, task, memory}.run();
      }
#endif
      return Backward<BF16, WordKind::kFloat>{call, task, memory}.run();
  }
}

// The sum over a row is taken in the order of the products with values: a row whose weight is all
// on one key then has a gradient of exactly zero, where two orders would leave their rounding.
template <class T>
void prepare(const BackwardCall& call, int64_t index, const BackwardMemory& memory) {
  using Stored = typename T::Stored;
  const FlashPlan& plan = call.plan;
  const Floats d;
  const int64_t dim = plan.config.head_dim;
  const RowTile tile = plan.tile(index);
  std::fill(memory.q_rows, memory.q_rows + kFlashRows * memory.width, 0.0f);
  std::fill(memory.dout_rows, memory.dout_rows + kFlashRows * memory.width, 0.0f);
  for (int64_t r = 0; r < tile.rows; ++r) {
    const auto load = [&](const ConstHeads& heads, float* rows) {
      const auto* from =
          static_cast<const Stored*>(heads.data) + plan.row_offset(heads.strides, tile, r);
      load_row<T, WordKind::kFloat>(from, dim, memory.width, rows + r * memory.width);
    };
    load(call.o, memory.q_rows);
    load(call.dout, memory.dout_rows);
    if (tile.key_begin >= tile.key_end) {
      auto* dq = static_cast<Stored*>(call.dq.data) + plan.row_offset(call.dq.strides, tile, r);
      std::fill(dq, dq + dim, Stored{0});
    }
  }
  transpose_words(memory.q_rows, memory.width, kFlashRows, dim, memory.q, kFlashRows);
  transpose_words(memory.dout_rows, memory.width, kFlashRows, dim, memory.dout, kFlashRows);
  for (int64_t v = 0; v < kFlashRows; v += kLanes) {
    FloatVector sum = hn::Zero(d);
    for (int64_t i = 0; i < dim; ++i) {
      const int64_t at = i * kFlashRows + v;
      sum = hn::MulAdd(hn::LoadU(d, memory.q + at), hn::LoadU(d, memory.dout + at), sum);
    }
    hn::StoreU(sum, d, call.deltas + index * kFlashRows + v);
  }
}

void BackwardPrepare(const BackwardCall& call, int64_t index, float* floats) {
  FloatCarver carver(floats);
  const BackwardMemory memory(call.plan, carver);
  switch (call.plan.config.dtype) {
    case DType::kF32:
      return prepare<F32>(call, index, memory);
    case DType::kF16:
      return prepare<F16>(call, index, memory);
    default:
      return prepare<BF16>(call, index, memory);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme {

HWY_EXPORT(BackwardKeys);
HWY_EXPORT(BackwardPrepare);

int64_t backward_floats(const FlashPlan& plan) {
  FloatCarver carver(nullptr);
  const BackwardMemory memory(plan, carver);
  return carver.used();
}

void backward_prepare(const BackwardCall& call, int64_t tile, float* memory) {
  HWY_DYNAMIC_DISPATCH(BackwardPrepare)(call, tile, memory);
}

void backward_keys(const BackwardCall& call, const KeyTask& task, float* memory) {
  HWY_DYNAMIC_DISPATCH(BackwardKeys)(call, task, memory);
}

}  // namespace mneme
#endif
