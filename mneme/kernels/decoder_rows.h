// The vector operations between a decoder layer's matrix products, fused where that saves a pass
// over memory and split by rows over threads. Each is a fixed sequence of the operations of
// elementwise.h on every row: the same bits as those, whatever the number of rows and threads.
// Small inputs (a decode step) stay on the caller's thread; nothing is allocated.
// Tests: decoder_rows_test.cc.
#pragma once

#include <cstdint>
#include <span>

#include "mneme/core/thread_pool.h"
#include "mneme/kernels/elementwise.h"

namespace mneme {

// y = rms_norm(x) as in elementwise.h; x, y [rows, dim] (may alias).
void rms_norm(const float* x, const float* weight, float epsilon, int64_t rows, int64_t dim,
              float* y, ThreadPool& pool);

// The residual stream between two blocks, a row at a time while it is in cache:
//   x += post_weight ? rms_norm(y, post_weight) : y;   out = rms_norm(x, weight)
// x, y, out [rows, dim]; out may be y, which is used up; weight null: out is not written.
void add_rms_norm(float* x, float* y, const float* post_weight, const float* weight, float epsilon,
                  int64_t rows, int64_t dim, float* out, ThreadPool& pool);

// gate *= activation as in elementwise.h, n elements.
void silu_mul(float* gate, const float* up, int64_t n, ThreadPool& pool);
void gelu_tanh_mul(float* gate, const float* up, int64_t n, ThreadPool& pool);

// Heads that are turned together: queries and keys.
struct RotaryRows {
  float* x = nullptr;  // [tokens, heads, dim], in place
  int64_t heads = 0;
  const float* norm_weight = nullptr;  // [dim]: rms_norm of every head first; null: none
};
// Norms and turns every part of a token before the next token; tables as rope() takes them.
void norm_rope(std::span<const RotaryRows> parts, float epsilon, int64_t tokens, int64_t dim,
               RopePairs pairs, const float* cosines, const float* sines, ThreadPool& pool);

}  // namespace mneme
