// The shape of an attention call, for the tests of its CPU kernels and their CUDA twins.
#pragma once

#include <cmath>
#include <cstdint>

#include "mneme/kernels/flash_attention.h"

namespace mneme::testing {

// Float32, no mask, scale head_dim^-0.5.
inline FlashAttention flash_shape(int64_t batch, int64_t q_len, int64_t k_len, int64_t q_heads,
                                  int64_t kv_heads, int64_t dim) {
  FlashAttention c;
  c.batch = batch;
  c.q_len = q_len;
  c.k_len = k_len;
  c.q_heads = q_heads;
  c.kv_heads = kv_heads;
  c.head_dim = dim;
  c.scale = 1 / std::sqrt(static_cast<double>(dim));
  return c;
}

}  // namespace mneme::testing
