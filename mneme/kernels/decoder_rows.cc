#include "mneme/kernels/decoder_rows.h"

#include "mneme/core/error.h"
#include "mneme/kernels/row_parts.h"

namespace mneme {

void rms_norm(const float* x, const float* weight, float epsilon, int64_t rows, int64_t dim,
              float* y, ThreadPool& pool) {
  for_row_parts(rows, dim, pool, [&](int64_t first, int64_t count) {
    rms_norm(x + first * dim, weight, epsilon, count, dim, y + first * dim);
  });
}

void add_rms_norm(float* x, float* y, const float* post_weight, const float* weight, float epsilon,
                  int64_t rows, int64_t dim, float* out, ThreadPool& pool) {
  MNEME_CHECK(rows >= 0 && dim > 0, "add_rms_norm: expected rows >= 0 and dim > 0, got ", rows,
              " x ", dim);
  for_row_parts(rows, dim, pool, [&](int64_t first, int64_t count) {
    for (int64_t at = first * dim; at < (first + count) * dim; at += dim) {
      if (post_weight != nullptr) rms_norm(y + at, post_weight, epsilon, 1, dim, y + at);
      add(x + at, y + at, dim);
      if (weight != nullptr) rms_norm(x + at, weight, epsilon, 1, dim, out + at);
    }
  });
}

void silu_mul(float* gate, const float* up, int64_t n, ThreadPool& pool) {
  for_row_parts(n, 1, pool,
                [&](int64_t first, int64_t count) { silu_mul(gate + first, up + first, count); });
}

void gelu_tanh_mul(float* gate, const float* up, int64_t n, ThreadPool& pool) {
  for_row_parts(n, 1, pool, [&](int64_t first, int64_t count) {
    gelu_tanh_mul(gate + first, up + first, count);
  });
}

void norm_rope(std::span<const RotaryRows> parts, float epsilon, int64_t tokens, int64_t dim,
               RopePairs pairs, const float* cosines, const float* sines, ThreadPool& pool) {
  MNEME_CHECK(dim > 0 && dim % 2 == 0, "norm_rope: dim must be positive and even, got ", dim);
  int64_t heads = 0;
  for (const RotaryRows& part : parts) {
    MNEME_CHECK(part.heads >= 0, "norm_rope: heads must not be negative, got ", part.heads);
    heads += part.heads;
  }
  const int64_t half = dim / 2;
  for_row_parts(tokens, heads * dim, pool, [&](int64_t first, int64_t count) {
    for (int64_t t = first; t < first + count; ++t) {
      for (const RotaryRows& part : parts) {
        float* x = part.x + t * part.heads * dim;
        if (part.norm_weight != nullptr) rms_norm(x, part.norm_weight, epsilon, part.heads, dim, x);
        rope(x, 1, part.heads, dim, pairs, cosines + t * half, sines + t * half);
      }
    }
  });
}

}  // namespace mneme
