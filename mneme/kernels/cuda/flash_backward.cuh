// FlashAttention-2's backward pass (papers/01 section 3), in three kernels: delta = rowsum(dout * o);
// dk and dv, where a block owns keys and streams the query rows that see them; dq, where a block
// owns query rows and streams keys. Both recompute the weights from lse. So every sum has one owner
// and one order: no atomic adds, the same bits in every run, no float32 copy of dq, for seven
// products of a pair of tiles where a shared dq would need five.
// Tests: flash_attention_emulated_test.cc.
#pragma once

#include "mneme/kernels/cuda/flash_tile.cuh"

namespace mneme::cuda {

struct ColumnTerms {
  RowTerms row;
  float lse, delta;  // lse in units of log2
};

template <class T, int kDim>
constexpr int64_t flash_backward_shared_bytes() {
  using Shape = FlashShape<T, kDim>;
  constexpr int kColumns = Shape::kBackwardColumns;
  return int64_t{2 * Shape::kRows + 4 * kColumns} * kRowStep<T, kDim> *
             static_cast<int64_t>(sizeof(typename T::Storage)) +
         2 * kColumns * static_cast<int64_t>(sizeof(ColumnTerms));
}

inline constexpr int kDeltaThreads = 128;
inline constexpr int kDeltaRows = 64;

// Grid: (tiles of kDeltaRows rows of the longest sequence, KV heads, sequences).
template <class T>
MNEME_KERNEL void flash_delta_kernel(FlashParams p) {
  const Sequence s = sequence_of(p, block_z());
  const int kv_head = block_y(), rows = s.q_len * p.ratio, lane = thread_index() % 32;
  const int last = at_most((block_x() + 1) * kDeltaRows, rows);
  for (int row = block_x() * kDeltaRows + thread_index() / 32; row < last;
       row += kDeltaThreads / 32) {
    const auto* dout = query_row<T>(p, p.dout, s, kv_head, row);
    const auto* o = query_row<T>(p, p.o, s, kv_head, row);
    float sum = 0;
    for (int d = lane; d < p.head_dim; d += 32) sum += to_float(T(), dout[d]) * to_float(T(), o[d]);
    MNEME_UNROLL
    for (int mask = 16; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
    if (lane == 0) p.delta[lse_at(p, s, kv_head, row)] = sum;
  }
}

MNEME_DEVICE ColumnTerms column_terms(const FlashParams& p, const Sequence& s, int kv_head,
                                      int row) {
  ColumnTerms terms;
  terms.row = row_terms(p, s, kv_head, row);
  const bool exists = row < s.q_len * p.ratio;
  terms.lse = exists ? p.lse[lse_at(p, s, kv_head, row)] * kLog2E : kInfinity;
  terms.delta = exists ? p.delta[lse_at(p, s, kv_head, row)] : 0.0f;
  return terms;
}

struct PairGradient {
  float weight, score;  // of the value sum (dropped ones 0) and of scale * q . k
};

MNEME_DEVICE PairGradient pair_gradient(const FlashParams& p, const ColumnTerms& row, int key,
                                        float dot, float dweight) {
  const Score score = score_of(p, row.row, key, dot);
  const float weight = exp2_of(score.value - row.lse);
  const float kept = dropout_factor(p, row.row, key);
  return {weight * kept, weight * (dweight * kept - row.delta) * score.slope};
}

// Grid: (row tiles of the longest sequence, KV heads, sequences).
template <class T, int kDim>
MNEME_KERNEL void flash_dq_kernel(FlashParams p) {
  using Element = typename T::Storage;
  using Shape = FlashShape<T, kDim>;
  constexpr int kRows = Shape::kRows, kColumns = Shape::kBackwardColumns;
  constexpr int kThreads = Shape::kThreads, kStep = kRowStep<T, kDim>;
  const Sequence s = sequence_of(p, block_z());
  const int kv_head = block_y(), first_row = block_x() * kRows, rows = s.q_len * p.ratio;
  if (first_row >= rows) return;

  auto* q_tile = reinterpret_cast<Element*>(shared_memory());
  Element* dout_tile = q_tile + kRows * kStep;
  Element* k_tiles = dout_tile + kRows * kStep;
  Element* v_tiles = k_tiles + 2 * kColumns * kStep;
  const int warp = thread_index() / 32, lane = thread_index() % 32;
  const int last_row = at_most(first_row + kRows, rows) - 1;
  const int begin = first_key(p, s, first_row / p.ratio) / kColumns * kColumns;
  const int end = last_key(p, s, last_row / p.ratio) + 1;

  const auto fetch_rows = [&](Element* tile, const DeviceHeads& heads) {
    load_tile<T, kDim, kRows, kThreads>(
        tile, p.head_dim, p.wide, heads.data, [&](int row) -> const Element* {
          return first_row + row < rows ? query_row<T>(p, heads, s, kv_head, first_row + row)
                                        : nullptr;
        });
  };
  const auto fetch_keys = [&](Element* tiles, const DeviceHeads& heads, int first, int stage) {
    load_tile<T, kDim, kColumns, kThreads>(
        tiles + stage * kColumns * kStep, p.head_dim, p.wide, heads.data,
        [&](int row) -> const Element* {
          return first + row < s.k_len ? row_at<T>(p, heads, s, s.k_begin, first + row, kv_head)
                                       : nullptr;
        });
  };
  fetch_rows(q_tile, p.q);
  fetch_rows(dout_tile, p.dout);
  if (begin < end) {
    fetch_keys(k_tiles, p.k, begin, 0);
    fetch_keys(v_tiles, p.v, begin, 0);
  }
  copy_commit();

  const ColumnTerms terms[2] = {column_terms(p, s, kv_head, first_row + warp * 16 + lane / 4),
                                column_terms(p, s, kv_head, first_row + warp * 16 + lane / 4 + 8)};
  float dq[kDim / 8][4] = {};
  int stage = 0;
  for (int first = begin; first < end; first += kColumns, stage ^= 1) {
    if (first + kColumns < end) {
      fetch_keys(k_tiles, p.k, first + kColumns, stage ^ 1);
      fetch_keys(v_tiles, p.v, first + kColumns, stage ^ 1);
    }
    copy_commit();
    copy_wait<1>();
    block_sync();
    const Element* k_tile = k_tiles + stage * kColumns * kStep;
    float scores[kColumns / 8][4] = {}, dweights[kColumns / 8][4] = {};
    row_products<T, kDim, kColumns>(scores, q_tile + warp * 16 * kStep, k_tile);
    row_products<T, kDim, kColumns>(dweights, dout_tile + warp * 16 * kStep,
                                    v_tiles + stage * kColumns * kStep);
    MNEME_UNROLL
    for (int n = 0; n < kColumns / 8; ++n) {
      MNEME_UNROLL
      for (int i = 0; i < 4; ++i) {
        scores[n][i] = pair_gradient(p, terms[i / 2], first + n * 8 + lane % 4 * 2 + i % 2,
                                     scores[n][i], dweights[n][i])
                           .score;
      }
    }
    weighted_sums<T, kDim, kColumns>(dq, scores, k_tile);
    block_sync();
  }
  copy_wait<0>();
  const float scale[2] = {p.scale, p.scale};
  store_rows<T, kDim>(dq, p.head_dim, scale, [&](int row) -> Element* {
    return first_row + row < rows ? query_row<T>(p, p.dq, s, kv_head, first_row + row) : nullptr;
  });
}

// Grid: (key tiles of the longest sequence, KV heads, sequences).
template <class T, int kDim>
MNEME_KERNEL void flash_dkv_kernel(FlashParams p) {
  using Element = typename T::Storage;
  using Shape = FlashShape<T, kDim>;
  constexpr int kRows = Shape::kRows, kColumns = Shape::kBackwardColumns;
  constexpr int kThreads = Shape::kThreads, kStep = kRowStep<T, kDim>;
  const Sequence s = sequence_of(p, block_z());
  const int kv_head = block_y(), first_key_row = block_x() * kRows;
  if (first_key_row >= s.k_len) return;

  auto* k_tile = reinterpret_cast<Element*>(shared_memory());
  Element* v_tile = k_tile + kRows * kStep;
  Element* q_tiles = v_tile + kRows * kStep;
  Element* dout_tiles = q_tiles + 2 * kColumns * kStep;
  auto* columns = reinterpret_cast<ColumnTerms*>(dout_tiles + 2 * kColumns * kStep);
  const int warp = thread_index() / 32, lane = thread_index() % 32;
  const int last = at_most(first_key_row + kRows, s.k_len) - 1;
  // Queries that see any of the keys.
  const int first_query = p.right < 0 ? 0 : at_least(0, first_key_row - s.off - p.right);
  const int last_query = p.left < 0 ? s.q_len - 1 : at_most(s.q_len - 1, last - s.off + p.left);
  const int rows = s.q_len * p.ratio;
  const int begin = first_query * p.ratio / kColumns * kColumns;
  const int end = (last_query + 1) * p.ratio;

  const auto fetch_keys = [&](Element* tile, const DeviceHeads& heads) {
    load_tile<T, kDim, kRows, kThreads>(
        tile, p.head_dim, p.wide, heads.data, [&](int row) -> const Element* {
          return first_key_row + row < s.k_len
                     ? row_at<T>(p, heads, s, s.k_begin, first_key_row + row, kv_head)
                     : nullptr;
        });
  };
  const auto fetch_rows = [&](Element* tiles, const DeviceHeads& heads, int first, int stage) {
    load_tile<T, kDim, kColumns, kThreads>(
        tiles + stage * kColumns * kStep, p.head_dim, p.wide, heads.data,
        [&](int row) -> const Element* {
          return first + row < rows ? query_row<T>(p, heads, s, kv_head, first + row) : nullptr;
        });
  };
  const auto fetch = [&](int first, int stage) {
    fetch_rows(q_tiles, p.q, first, stage);
    fetch_rows(dout_tiles, p.dout, first, stage);
    if (thread_index() < kColumns) {
      columns[stage * kColumns + thread_index()] =
          column_terms(p, s, kv_head, first + thread_index());
    }
  };
  fetch_keys(k_tile, p.k);
  fetch_keys(v_tile, p.v);
  if (begin < end) fetch(begin, 0);
  copy_commit();

  float dk[kDim / 8][4] = {}, dv[kDim / 8][4] = {};
  int stage = 0;
  for (int first = begin; first < end; first += kColumns, stage ^= 1) {
    if (first + kColumns < end) fetch(first + kColumns, stage ^ 1);
    copy_commit();
    copy_wait<1>();
    block_sync();
    const Element* q_tile = q_tiles + stage * kColumns * kStep;
    const Element* dout_tile = dout_tiles + stage * kColumns * kStep;
    float weights[kColumns / 8][4] = {}, dscores[kColumns / 8][4] = {};
    row_products<T, kDim, kColumns>(weights, k_tile + warp * 16 * kStep, q_tile);
    row_products<T, kDim, kColumns>(dscores, v_tile + warp * 16 * kStep, dout_tile);
    MNEME_UNROLL
    for (int n = 0; n < kColumns / 8; ++n) {
      MNEME_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int key = first_key_row + warp * 16 + lane / 4 + i / 2 * 8;
        const ColumnTerms& row = columns[stage * kColumns + n * 8 + lane % 4 * 2 + i % 2];
        const PairGradient pair = pair_gradient(p, row, key, weights[n][i], dscores[n][i]);
        weights[n][i] = pair.weight;
        dscores[n][i] = pair.score;
      }
    }
    weighted_sums<T, kDim, kColumns>(dv, weights, dout_tile);
    weighted_sums<T, kDim, kColumns>(dk, dscores, q_tile);
    block_sync();
  }
  copy_wait<0>();
  const auto key_row = [&](const DeviceHeads& heads) {
    return [&p, &s, &heads, first_key_row, kv_head](int row) -> Element* {
      return first_key_row + row < s.k_len
                 ? row_at<T>(p, heads, s, s.k_begin, first_key_row + row, kv_head)
                 : nullptr;
    };
  };
  const float one[2] = {1, 1}, scale[2] = {p.scale, p.scale};
  store_rows<T, kDim>(dv, p.head_dim, one, key_row(p.dv));
  store_rows<T, kDim>(dk, p.head_dim, scale, key_row(p.dk));
}

}  // namespace mneme::cuda
