// One tile of query rows against the pages of one split (papers/01 section 3, forward): the
// arithmetic of paged_attention, shared by its two schedules (many queries: a task walks all splits
// of its tile; few queries: a task per split), so that both give the same bits. A split is done in
// three passes: all its scores, their softmax, all its values; splits are merged by online softmax.
// Scores are in units of log2: p = 2^(s - max). Tests: attention_tile_test.cc,
// paged_attention_test.cc.
#pragma once

#include <cstdint>
#include <span>

#include "mneme/kernels/attention_visible.h"
#include "mneme/kernels/paged_attention.h"
#include "mneme/kernels/row_page.h"

namespace mneme {

inline constexpr int64_t kMaxTileQueries = 96;

// What is the same for every tile of a call.
struct TilePlan {
  // At most `most_split_pages` pages of one KV head lie in one split.
  TilePlan(const PagedAttention& attention, int64_t most_split_pages);

  PagedAttention config;
  PageLayout layout;
  int64_t split_pages = 1;
  int64_t ratio = 1;         // query heads of one KV head
  int64_t tile_queries = 1;  // queries of a full tile
  // Codes are multiplied as they are stored where groups fill whole vectors of every SIMD target (a
  // multiple of 32); other groups are expanded to values, page by page.
  bool folded = false;
  int64_t k_groups = 0, v_groups = 0;  // of folded formats, else 0
  int64_t v_stride = 0;                // v_dim rounded up to whole vectors
  float q_factor = 1;                  // queries are multiplied by it when they are loaded
  float cap = 0;                       // > 0: s = cap * tanh(q_factor * q . k)

  int64_t memory_floats(int64_t rows) const;   // TileMemory
  int64_t partial_floats(int64_t rows) const;  // Partial
};

// Few rows: the weights of all pages of a split become factors before the first product, whose
// latency then hides behind other pages. More rows: page by page, so that they stay in the caches.
inline constexpr int64_t kCodesAheadRows = 12;
inline bool codes_ahead(int64_t rows) { return rows <= kCodesAheadRows; }

struct QueryTile {
  int64_t queries = 0;         // 1..tile_queries
  int64_t first_position = 0;  // of its first query
  const float* q = nullptr;  // the first query's first head of the KV head; [queries, q_heads, Dk]
  float* out = nullptr;      // likewise, [queries, q_heads, Dv]
  RowWindow window;
};

// Un-normalised result of a set of rows: row t * ratio + r is head r of the tile's query t.
struct Partial {
  Partial(const TilePlan& plan, int64_t rows, float* memory);
  float* max;     // [rows], -infinity where nothing was visible
  float* sum;     // [rows]
  float* values;  // [rows, v_stride]
};

// Working memory of one task. Folded formats hold queries and weights as whole numbers of a step
// (attention_codes-inl.h) instead of q.
struct TileMemory {
  TileMemory(const TilePlan& plan, int64_t rows, float* memory);
  float* q;            // [rows, Dk] times q_factor
  int32_t* q_factors;  // [rows, Dk]
  int32_t* q_offsets;  // [rows, k_groups] sum of the factors times the centre of the codes
  float* q_steps;      // [rows, k_groups]
  float* q_sums;       // [rows, k_groups] sums of q
  int32_t* p_factors;  // [pages, v_groups, rows, 64], one page or (codes_ahead) the split's
  float* p_steps;      // [pages, v_groups, rows]
  float* bias_lanes;   // [rows, v_groups, 16]
  float* k_scales;     // [k_groups, 64]
  float* k_biases;
  float* v_scales;  // [v_groups, 64]
  float* v_biases;
  float* keys;           // [Dk, 64] of the page in hand, expanded
  float* values;         // [64, v_stride]
  VisibleRows* visible;  // [split_pages, tile_queries]
  float* sum_factors;    // [rows] for attention_sums.h
  // Scores, then weights relative to the split's maximum, of the split's pages in order. The caller
  // may put its own memory here to keep the weights of all splits.
  float* weights;  // [rows, weight_stride], 64 for each page
  int64_t weight_stride;
};

void load_queries(const TilePlan& plan, const QueryTile& tile, const TileMemory& memory);

// Overwrites `partial` with the tile over `pages` (one split's). `after` are the pages that the
// caller will read next, or none: they are fetched ahead.
void attend_split(const TilePlan& plan, const QueryTile& tile, std::span<const PageView> pages,
                  std::span<const PageView> after, const TileMemory& memory,
                  const Partial& partial);

// total = nothing seen yet.
void clear_partial(const TilePlan& plan, int64_t rows, const Partial& total);

// total += part, in the order of the calls.
void merge_partial(const TilePlan& plan, int64_t rows, const Partial& part, const Partial& total);

// Writes total.values / total.sum to the tile's `out`; zeros where nothing was visible.
void finish_tile(const TilePlan& plan, const QueryTile& tile, const Partial& total);

// For tests: the vector functions of the chosen SIMD target over x [n].
void attention_exp2(const float* x, int64_t n, float* y);
void attention_tanh(const float* x, int64_t n, float* y);

}  // namespace mneme
