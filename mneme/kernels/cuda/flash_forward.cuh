// FlashAttention-2's forward pass (papers/01 section 3): a block owns 64 rows of one KV head's query
// group (a warp 16 of them, so that no sum crosses warps) and streams keys and values through two
// stages of shared memory; the next stage is fetched while this one is multiplied.
// Tests: flash_attention_emulated_test.cc.
#pragma once

#include "mneme/kernels/cuda/flash_tile.cuh"

namespace mneme::cuda {

template <class T, int kDim>
constexpr int64_t flash_forward_shared_bytes() {
  using Shape = FlashShape<T, kDim>;
  return int64_t{Shape::kRows + 4 * Shape::kColumns} * kRowStep<T, kDim> *
         static_cast<int64_t>(sizeof(typename T::Storage));
}

// Grid: (row tiles of the longest sequence, KV heads, sequences).
template <class T, int kDim>
MNEME_KERNEL void flash_forward_kernel(FlashParams p) {
  using Element = typename T::Storage;
  using Shape = FlashShape<T, kDim>;
  constexpr int kRows = Shape::kRows, kColumns = Shape::kColumns, kThreads = Shape::kThreads;
  constexpr int kStep = kRowStep<T, kDim>;
  const Sequence s = sequence_of(p, block_z());
  const int kv_head = block_y(), first_row = block_x() * kRows, rows = s.q_len * p.ratio;
  if (first_row >= rows) return;

  auto* q_tile = reinterpret_cast<Element*>(shared_memory());
  Element* k_tiles = q_tile + kRows * kStep;
  Element* v_tiles = k_tiles + 2 * kColumns * kStep;
  const int warp = thread_index() / 32, lane = thread_index() % 32;
  const int last_row = at_most(first_row + kRows, rows) - 1;
  const int begin = first_key(p, s, first_row / p.ratio) / kColumns * kColumns;
  const int end = last_key(p, s, last_row / p.ratio) + 1;

  const auto fetch = [&](int first, int stage) {
    const auto key_row = [&](const DeviceHeads& heads) {
      return [&p, &s, &heads, first, kv_head](int row) -> const Element* {
        return first + row < s.k_len ? row_at<T>(p, heads, s, s.k_begin, first + row, kv_head)
                                     : nullptr;
      };
    };
    load_tile<T, kDim, kColumns, kThreads>(k_tiles + stage * kColumns * kStep, p.head_dim, p.wide,
                                           p.k.data, key_row(p.k));
    load_tile<T, kDim, kColumns, kThreads>(v_tiles + stage * kColumns * kStep, p.head_dim, p.wide,
                                           p.v.data, key_row(p.v));
  };
  load_tile<T, kDim, kRows, kThreads>(
      q_tile, p.head_dim, p.wide, p.q.data, [&](int row) -> const Element* {
        return first_row + row < rows ? query_row<T>(p, p.q, s, kv_head, first_row + row) : nullptr;
      });
  if (begin < end) fetch(begin, 0);
  copy_commit();

  const RowTerms terms[2] = {row_terms(p, s, kv_head, first_row + warp * 16 + lane / 4),
                             row_terms(p, s, kv_head, first_row + warp * 16 + lane / 4 + 8)};
  float out[kDim / 8][4] = {};
  float top[2] = {-kInfinity, -kInfinity}, sum[2] = {0, 0};
  int stage = 0;
  for (int first = begin; first < end; first += kColumns, stage ^= 1) {
    if (first + kColumns < end) fetch(first + kColumns, stage ^ 1);
    copy_commit();
    copy_wait<1>();
    block_sync();
    float scores[kColumns / 8][4] = {};
    row_products<T, kDim, kColumns>(scores, q_tile + warp * 16 * kStep,
                                    k_tiles + stage * kColumns * kStep);
    MNEME_UNROLL
    for (int half = 0; half < 2; ++half) {
      const RowTerms& row = terms[half];
      float largest = top[half];
      MNEME_UNROLL
      for (int n = 0; n < kColumns / 8; ++n) {
        MNEME_UNROLL
        for (int i = 0; i < 2; ++i) {
          float& score = scores[n][half * 2 + i];
          score = score_of(p, row, first + n * 8 + lane % 4 * 2 + i, score).value;
          largest = largest > score ? largest : score;
        }
      }
      largest = quad_max(largest);
      // A row that has seen nothing yet keeps exponents finite: exp2(-infinity - 0) is 0.
      const float base = largest == -kInfinity ? 0.0f : largest;
      const float kept = exp2_of(top[half] - base);
      top[half] = largest;
      float added = 0;
      MNEME_UNROLL
      for (int n = 0; n < kColumns / 8; ++n) {
        MNEME_UNROLL
        for (int i = 0; i < 2; ++i) {
          float& weight = scores[n][half * 2 + i];
          weight = exp2_of(weight - base);
          added += weight;
          weight *= dropout_factor(p, row, first + n * 8 + lane % 4 * 2 + i);
        }
      }
      sum[half] = sum[half] * kept + added;
      MNEME_UNROLL
      for (int d = 0; d < kDim / 8; ++d) {
        out[d][half * 2] *= kept;
        out[d][half * 2 + 1] *= kept;
      }
    }
    weighted_sums<T, kDim, kColumns>(out, scores, v_tiles + stage * kColumns * kStep);
    block_sync();  // before the stage is filled again
  }
  copy_wait<0>();

  float scale[2];
  MNEME_UNROLL
  for (int half = 0; half < 2; ++half) {
    const float total = quad_sum(sum[half]);
    scale[half] = total > 0 ? 1 / total : 0.0f;
    const int row = first_row + warp * 16 + lane / 4 + half * 8;
    if (p.lse != nullptr && lane % 4 == 0 && row < rows) {
      p.lse[lse_at(p, s, kv_head, row)] = total > 0 ? (top[half] + log2f(total)) * kLn2 : kInfinity;
    }
  }
  store_rows<T, kDim>(out, p.head_dim, scale, [&](int row) -> Element* {
    return first_row + row < rows ? query_row<T>(p, p.o, s, kv_head, first_row + row) : nullptr;
  });
}

}  // namespace mneme::cuda
