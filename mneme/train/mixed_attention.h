// Attention between full and streaming, as routers are trained with (papers/22, section 3.3):
//
//   o = z * full(q, k, v) + (1 - z) * streaming(q, k, v)
//
// for one z a sample. Where every z is 0 or 1 the branch that is not taken adds nothing to the
// gradients of q, k and v, only to z's, and is run without a graph: the same gradients for half the
// backward pass. Tests: flux_training_test.cc (golden 22; both ways agree).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "mneme/kernels/paged_attention.h"

namespace mneme::train {

// [queries, keys] bool: what queries at the last `queries` of `keys` positions see. The newest
// `last_full` of them see everything before them (the "triangle" form).
at::Tensor visible_mask(int64_t queries, int64_t keys, const RowWindow& window,
                        int64_t last_full = 0);

// q [B, H, Sq, D], k and v [B, Hk, Sk, D], Hk divides H; sees bool [Sq, Sk] or [B, 1, Sq, Sk].
at::Tensor masked_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const at::Tensor& sees, double scale);

// z [B]; full and streaming bool [Sq, Sk].
at::Tensor mixed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const at::Tensor& z, const at::Tensor& full, const at::Tensor& streaming,
                           double scale);

}  // namespace mneme::train
