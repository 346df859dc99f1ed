// Exact attention of a few to many queries over paged rows (kernels/row_page.h), without
// dequantising the cache: scales and biases are folded into the dot products (papers/05
// section 3.3), pages are merged by online softmax (papers/01).
//
//   out[t, h] = softmax_j(softcap(scale * q[t, h] . k[h / R, j])) . v[h / R, j]
//
// with R = q_heads / kv_heads, over the rows j that query t may see: not hidden, position_j <=
// position_t, inside the KV head's RowWindow.
//
// Rows of codes whose groups are multiples of 32 are multiplied as they are stored: queries become
// whole numbers of a step (1/32639 of the largest of their group at most), weights times scales
// likewise (1/32767 of the largest of their page), and sums of those times codes are exact. Scores
// then err like queries rounded to 15 bits and a sign: with unit variance by 2e-5 (standard
// deviation), answers by 1e-5 of the values where few rows are seen and less where many are
// (golden attn cases: 1.2e-5; 8K rows: 1e-6). Other rows are read as floats and err like float32.
//
// The sum order is fixed by the rows alone: dimensions in order, rows in order within a page, pages
// in order within a split of kSplitPositions positions, splits in order. So the result of a query
// is the same bit for bit whether it is asked alone or in a chunk, by one thread or many, and
// whether rows nobody may see are stored or not. Tests: paged_attention_test.cc.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "mneme/core/thread_pool.h"
#include "mneme/kernels/row_page.h"

namespace mneme {

inline constexpr int64_t kSplitPositions =
    512;  // the split of a page is its first position / kSplitPositions

struct PageView {
  const std::byte* data = nullptr;
  const int32_t* positions =
      nullptr;                 // [rows], increasing; null: first_position, first_position + 1, ...
  int32_t first_position = 0;  // position of row 0
  int32_t rows = 0;            // 1..kPageRows in use
  uint64_t hidden = 0;         // bit r: nobody sees row r
};

// Rows a query at position p sees, of those at positions <= p: all of them where window is 0, else
// those at positions < sink and those of the newest `window` positions, counted from the end of p's
// block of `block` positions.
struct RowWindow {
  int64_t window = 0;
  int64_t sink = 0;
  int64_t block = 1;

  // The first position of the window of a query at `position`.
  int64_t first(int64_t position) const {
    return window == 0 ? 0 : std::max<int64_t>(0, (position / block + 1) * block - window);
  }
};

struct PagedAttention {
  RowFormat format;
  int64_t q_heads = 0;
  int64_t kv_heads = 0;  // divides q_heads; query head h reads KV head h / (q_heads / kv_heads)
  float scale = 1;       // multiplies q . k
  float softcap = 0;     // > 0: s = softcap * tanh(s / softcap)
  RowWindow window;      // of every KV head
  std::span<const RowWindow> head_windows;  // [kv_heads] instead of `window`, where not empty

  const RowWindow& window_of(int64_t head) const {
    return head_windows.empty() ? window : head_windows[static_cast<size_t>(head)];
  }
};

// What a call tells about its softmax weights besides the answers; each where it is wanted.
struct WeightSinks {
  // For each KV head the sums of its stored rows in the order of its pages: to each the weights
  // that the call's queries, all query heads of the KV head, give to the row are added. The weight
  // of a query, summed over these heads in float32, is rounded to a multiple of 2^-36, and sums of
  // such multiples are exact below 2^17: chunks, threads and order do not change them.
  std::span<const std::span<double>> sums;
  // [queries, q_heads, stride] the weights themselves, overwritten: of every stored row of the query
  // head's KV head in the order of its pages, 0 where a query does not see it. stride >= rows; what
  // lies beyond the rows is left alone.
  float* weights = nullptr;
  int64_t stride = 0;
};

// Scratch that grows to the largest call and is then reused: a decode step allocates nothing.
class AttentionScratch {
 public:
  // At least `floats` floats, 64-byte aligned; contents undefined.
  float* reserve(int64_t floats);
  // At least `count` integers; contents undefined.
  int64_t* reserve_integers(int64_t count);
  int64_t bytes() const {
    return static_cast<int64_t>(storage_.size() * sizeof(float) +
                                integers_.size() * sizeof(int64_t));
  }

 private:
  std::vector<float> storage_;
  std::vector<int64_t> integers_;
};

// queries        number of queries, consecutive positions first_position, first_position + 1, ...
// q              [queries, q_heads, k_dim]
// heads          [kv_heads] the pages each KV head holds, ordered by position
// out            [queries, q_heads, v_dim], overwritten; a query that sees no row gets zeros
// Cost: queries * q_heads * rows * (k_dim + v_dim) multiply-adds; memory linear in rows (with sinks 4
// bytes for every query head of a tile and row besides). Throws Error on sizes that do not fit.
void paged_attention(const PagedAttention& config, int64_t queries, int64_t first_position,
                     const float* q, std::span<const std::span<const PageView>> heads, float* out,
                     AttentionScratch& scratch, ThreadPool& pool, const WeightSinks& sinks = {});

}  // namespace mneme
