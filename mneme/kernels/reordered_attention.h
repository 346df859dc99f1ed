// Self-attention in the order of Edge-MoE's accelerator (papers/33 sections 3.3 and 3.4):
// `parallel` queries share one stream of keys and values, a row a step (core/staggered_schedule.h),
// and each gathers its softmax in a single pass. No score is stored: a query's value sum is
// rescaled where a larger score arrives, as in papers/01.
//
//   o[i, h] = softmax_j(scale * q[i, h] . k[j, h]) . v[j, h]
//
// Query i meets keys s, s + 1, ..., rows - 1, 0, ..., s - 1 with s = i mod parallel, so its result
// is a function of the row, the keys and s: the same bits for any number of heads and threads.
// Tests: reordered_attention_test.cc (float64 twin, every target), edge_moe_golden_test.cc.
#pragma once

#include <cstdint>

#include "mneme/core/thread_pool.h"
#include "mneme/kernels/paged_attention.h"

namespace mneme {

struct ReorderedAttention {
  int64_t rows = 0;  // >= 0 queries and as many keys
  int64_t heads = 0;
  int64_t k_dim = 0, v_dim = 0;  // >= 1
  float scale = 1;               // multiplies q . k
  int64_t parallel = 4;          // >= 1 queries at once; more than `rows` are not used
};

// What the kernel saw on its way, for inspection; each may be null.
struct ReorderedTrace {
  float* scores = nullptr;  // [heads, rows (queries), rows (keys)]
  float* sums = nullptr;    // [heads, rows] softmax denominators
  float* biases = nullptr;  // [heads, rows] largest scores
};

// q, k [rows, heads, k_dim], v, o [rows, heads, v_dim]; o must not alias. Throws Error on sizes out
// of range. Cost: rows^2 * heads * (k_dim + v_dim) multiply-adds; memory parallel * v_dim floats a
// thread.
void reordered_attention(const ReorderedAttention& config, const float* q, const float* k,
                         const float* v, float* o, const ReorderedTrace& trace,
                         AttentionScratch& scratch, ThreadPool& pool);

}  // namespace mneme
