// Decode attention over paged rows (kernels/row_page.h): the context is cut into splits of eight
// pages, a block answers a few query rows of one KV head over one split, and a second kernel merges
// the splits in order by online softmax (papers/01 section 3). Keys are read transposed, a row a
// thread, values a dimension a thread, so that neighbouring threads read neighbouring words of four
// (q8) or eight (q4) codes; rows are never dequantised in memory.
// Tests: paged_attention_emulated_test.cc.
#pragma once

#include "mneme/kernels/cuda/platform.cuh"
#include "mneme/kernels/row_page.h"

namespace mneme::cuda {

inline constexpr int kPageThreads = 256;
inline constexpr int kSplitPages = 8;
inline constexpr int kPageSlots = 64;  // kPageRows
inline constexpr int kDimParts = kPageThreads / kPageSlots;

struct PagedParams {
  const PageView* pages;  // of all KV heads
  const int32_t* begin;   // [kv_heads + 1] first page of each
  const float* q;         // [queries, q_heads, k_dim]
  float* out;             // [queries, q_heads, v_dim]
  float* partials;        // [row tiles, kv_heads, splits, kRows, v_dim + 2]
  int64_t k_scales, k_biases, v, v_scales, v_biases;  // PageLayout
  int64_t first_position, window, sink;
  int32_t queries, q_heads, ratio, k_dim, v_dim, group, splits;
  float factor;  // score = factor * q . k in units of log2, or tanh's argument
  float cap;     // > 0: score = cap * tanh(factor * q . k), in units of log2
  bool f32_scales;
};

// Codes in one 32-bit word of a page; 1: a float encoding.
template <RowEncoding kEncoding>
inline constexpr int kWordCodes = kEncoding == RowEncoding::kQ8   ? 4
                                  : kEncoding == RowEncoding::kQ4 ? 8
                                                                  : 1;

template <RowEncoding kEncoding>
MNEME_DEVICE float float_at(const char* values, int64_t index) {
  if constexpr (kEncoding == RowEncoding::kF32) {
    return reinterpret_cast<const float*>(values)[index];
  } else if constexpr (kEncoding == RowEncoding::kF16) {
    return to_float(F16(), reinterpret_cast<const uint16_t*>(values)[index]);
  } else {
    return to_float(BF16(), reinterpret_cast<const uint16_t*>(values)[index]);
  }
}

MNEME_DEVICE float scale_at(const PagedParams& p, const char* table, int64_t index) {
  return p.f32_scales ? reinterpret_cast<const float*>(table)[index]
                      : to_float(F16(), reinterpret_cast<const uint16_t*>(table)[index]);
}

// Code `which` of a word: bytes of it, then (4 bits) their upper halves.
template <int kCodes>
MNEME_DEVICE float code_of(uint32_t word, int which) {
  if constexpr (kCodes == 4) {
    return static_cast<float>(word >> (8 * which) & 255u);
  } else {
    return static_cast<float>(word >> (which % 4 * 8 + which / 4 * 4) & 15u);
  }
}

MNEME_DEVICE int64_t page_position(const PageView& page, int row) {
  return page.positions != nullptr ? page.positions[row] : int64_t{page.first_position} + row;
}

MNEME_DEVICE bool sees(const PagedParams& p, int64_t now, int64_t position) {
  return position <= now && (p.window == 0 || position > now - p.window || position < p.sink);
}

// Columns of value threads: the power of two from 32 that holds v_dim.
MNEME_DEVICE int value_columns(int v_dim) {
  int columns = 32;
  while (columns < v_dim) columns *= 2;
  return columns;
}

template <int kRows>
constexpr int64_t paged_shared_bytes(int64_t k_dim) {
  const int64_t reduce = kPageThreads * kRows;  // value sums of every thread
  const int64_t scores = (kDimParts + 1) * kRows * kPageSlots;
  return 4 * (kRows * k_dim + (scores > reduce ? scores : reduce) + 4 * kRows);
}

// Grid: (splits, KV heads, tiles of kRows query rows).
template <RowEncoding kEncoding, int kRows>
MNEME_KERNEL void paged_split_kernel(PagedParams p) {
  constexpr int kCodes = kWordCodes<kEncoding>;
  const int split = block_x(), kv_head = block_y(), first_row = block_z() * kRows;
  const int thread = thread_index(), slot = thread % kPageSlots, part = thread / kPageSlots;
  const int rows = at_most(kRows, p.queries * p.ratio - first_row);
  const int page_begin = p.begin[kv_head] + split * kSplitPages;
  const int page_end = at_most(page_begin + kSplitPages, p.begin[kv_head + 1]);

  auto* query = reinterpret_cast<float*>(shared_memory());  // [kRows, k_dim]
  float* sums = query + kRows * p.k_dim;                    // [kDimParts, kRows, 64]
  float* weights = sums + kDimParts * kRows * kPageSlots;   // [kRows, 64]
  constexpr int64_t kScores = (kDimParts + 1) * kRows * kPageSlots;
  constexpr int64_t kReduce = kPageThreads * kRows;
  float* state = sums + (kScores > kReduce ? kScores : kReduce);  // [top, total, kept][kRows]
  const auto global_row = [&](int row) {                          // of q and out, in rows of a head
    const int at = first_row + row;
    return static_cast<int64_t>(at / p.ratio) * p.q_heads + kv_head * p.ratio + at % p.ratio;
  };
  const auto position_of_row = [&](int row) {
    return p.first_position + (first_row + row) / p.ratio;
  };
  for (int at = thread; at < kRows * p.k_dim; at += kPageThreads) {
    const int row = at / p.k_dim;
    query[at] = row < rows ? p.q[global_row(row) * p.k_dim + at % p.k_dim] : 0.0f;
  }
  if (thread < kRows) {
    state[thread] = -kInfinity;
    state[kRows + thread] = 0;
  }
  block_sync();

  const int columns = value_columns(p.v_dim), row_groups = kPageThreads / columns;
  const int column = thread % columns, row_group = thread / columns;
  float out[kRows] = {};
  for (int number = page_begin; number < page_end; ++number) {
    const PageView page = p.pages[number];
    const auto* data = reinterpret_cast<const char*>(page.data);
    const int64_t first = page_position(page, 0), last = page_position(page, page.rows - 1);
    if (first > position_of_row(rows - 1)) break;
    if (p.window > 0 && last <= position_of_row(0) - p.window && first >= p.sink) continue;

    // Scores: a thread takes one row of the page and every fourth word of its key.
    float dots[kRows] = {};
    if (slot < page.rows) {
      for (int word = part; word < p.k_dim / kCodes; word += kDimParts) {
        if constexpr (kCodes == 1) {
          const float x = float_at<kEncoding>(data, word * kPageSlots + slot);
          MNEME_UNROLL
          for (int r = 0; r < kRows; ++r) dots[r] += query[r * p.k_dim + word] * x;
        } else {
          const uint32_t codes = reinterpret_cast<const uint32_t*>(data)[word * kPageSlots + slot];
          const int64_t group = word * kCodes / p.group * kPageSlots + slot;
          const float scale = scale_at(p, data + p.k_scales, group);
          const float bias = scale_at(p, data + p.k_biases, group);
          MNEME_UNROLL
          for (int i = 0; i < kCodes; ++i) {
            const float x = scale * code_of<kCodes>(codes, i) + bias;
            MNEME_UNROLL
            for (int r = 0; r < kRows; ++r) dots[r] += query[r * p.k_dim + word * kCodes + i] * x;
          }
        }
      }
    }
    MNEME_UNROLL
    for (int r = 0; r < kRows; ++r) sums[(part * kRows + r) * kPageSlots + slot] = dots[r];
    block_sync();

    // Softmax: a warp a query row, two rows of the page a lane.
    for (int row = thread / 32; row < kRows; row += kPageThreads / 32) {
      float score[2], largest = state[row];
      MNEME_UNROLL
      for (int i = 0; i < 2; ++i) {
        const int at = thread % 32 + 32 * i;
        score[i] = -kInfinity;
        if (row < rows && at < page.rows &&
            (page.hidden >> at & 1) == 0 &&
            sees(p, position_of_row(row), page_position(page, at))) {
          float dot = 0;
          MNEME_UNROLL
          for (int d = 0; d < kDimParts; ++d) dot += sums[(d * kRows + row) * kPageSlots + at];
          score[i] = p.factor * dot;
          if (p.cap > 0) score[i] = p.cap * tanhf(score[i]);
        }
        largest = largest > score[i] ? largest : score[i];
      }
      MNEME_UNROLL
      for (int mask = 16; mask > 0; mask /= 2) {
        const float other = shuffle_xor(largest, mask);
        largest = largest > other ? largest : other;
      }
      const float base = largest == -kInfinity ? 0.0f : largest;
      float total = 0;
      MNEME_UNROLL
      for (int i = 0; i < 2; ++i) {
        score[i] = exp2_of(score[i] - base);
        weights[row * kPageSlots + thread % 32 + 32 * i] = score[i];
        total += score[i];
      }
      MNEME_UNROLL
      for (int mask = 16; mask > 0; mask /= 2) total += shuffle_xor(total, mask);
      if (thread % 32 == 0) {
        const float kept = exp2_of(state[row] - base);
        state[2 * kRows + row] = kept;
        state[kRows + row] = state[kRows + row] * kept + total;
        state[row] = largest;
      }
    }
    block_sync();

    // Values: a thread takes one dimension of its part of the page's rows. Slots that are not in
    // use may hold anything and are left out, not multiplied by 0.
    MNEME_UNROLL
    for (int r = 0; r < kRows; ++r) out[r] *= state[2 * kRows + r];
    if (column < p.v_dim) {
      const char* values = data + p.v;
      const int from = row_group * (kPageSlots / row_groups);
      const int to = at_most(from + kPageSlots / row_groups, page.rows);
      for (int row = from; row < to; row += kCodes) {
        if constexpr (kCodes == 1) {
          const float x = float_at<kEncoding>(values, static_cast<int64_t>(row) * p.v_dim + column);
          MNEME_UNROLL
          for (int r = 0; r < kRows; ++r) out[r] += weights[r * kPageSlots + row] * x;
        } else {
          const uint32_t codes =
              reinterpret_cast<const uint32_t*>(values)[row / kCodes * p.v_dim + column];
          MNEME_UNROLL
          for (int i = 0; i < kCodes; ++i) {
            if (row + i >= to) continue;
            const int64_t group = column / p.group * kPageSlots + row + i;
            const float scale = scale_at(p, data + p.v_scales, group);
            const float bias = scale_at(p, data + p.v_biases, group);
            // Codes of a negative scale are kept turned round: top - code.
            const float code = code_of<kCodes>(codes, i);
            const float x =
                scale * (scale < 0 ? (kCodes == 4 ? 255.0f : 15.0f) - code : code) + bias;
            MNEME_UNROLL
            for (int r = 0; r < kRows; ++r) out[r] += weights[r * kPageSlots + row + i] * x;
          }
        }
      }
    }
    block_sync();
  }

  // The sums of the row groups, in order, then this split's part.
  float* reduce = sums;  // [row_groups, kRows, columns]
  MNEME_UNROLL
  for (int r = 0; r < kRows; ++r) reduce[(row_group * kRows + r) * columns + column] = out[r];
  block_sync();
  const int64_t part_index =
      (static_cast<int64_t>(block_z()) * (p.q_heads / p.ratio) + kv_head) * p.splits + split;
  float* partial = p.partials + part_index * kRows * (p.v_dim + 2);
  for (int at = thread; at < kRows * p.v_dim; at += kPageThreads) {
    const int row = at / p.v_dim, dim = at % p.v_dim;
    float sum = 0;
    for (int g = 0; g < row_groups; ++g) sum += reduce[(g * kRows + row) * columns + dim];
    partial[row * (p.v_dim + 2) + dim] = sum;
  }
  if (thread < kRows) {
    partial[thread * (p.v_dim + 2) + p.v_dim] = state[thread];
    partial[thread * (p.v_dim + 2) + p.v_dim + 1] = state[kRows + thread];
  }
}

// Grid: (tiles of kRows query rows, KV heads). A row that saw nothing gets zeros.
template <int kRows>
MNEME_KERNEL void paged_merge_kernel(PagedParams p) {
  const int tile = block_x(), kv_head = block_y(), first_row = tile * kRows;
  const int rows = at_most(kRows, p.queries * p.ratio - first_row), step = p.v_dim + 2;
  const int64_t first_part =
      (static_cast<int64_t>(tile) * (p.q_heads / p.ratio) + kv_head) * p.splits;
  for (int at = thread_index(); at < rows * p.v_dim; at += kPageThreads) {
    const int row = at / p.v_dim, dim = at % p.v_dim;
    float top = -kInfinity, total = 0, sum = 0;
    for (int split = 0; split < p.splits; ++split) {
      const float* part = p.partials + ((first_part + split) * kRows + row) * step;
      const float part_top = part[p.v_dim];
      if (part_top == -kInfinity) continue;
      const float largest = top > part_top ? top : part_top;
      const float kept = exp2_of(top - largest), gained = exp2_of(part_top - largest);
      total = total * kept + part[p.v_dim + 1] * gained;
      sum = sum * kept + part[dim] * gained;
      top = largest;
    }
    const int query_row = first_row + row;
    const int64_t to = static_cast<int64_t>(query_row / p.ratio) * p.q_heads + kv_head * p.ratio +
                       query_row % p.ratio;
    p.out[to * p.v_dim + dim] = total > 0 ? sum / total : 0.0f;
  }
}

}  // namespace mneme::cuda
