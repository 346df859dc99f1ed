// Exact attention on at::Tensor, differentiable: the kernels of kernels/flash_attention.h behind an
// autograd function (papers/01, FlashAttention-2). CPU tensors of one type, f32, bf16, f16 or f64.
// Tests: flash_attention_test.cc; from Python as torch.ops.mneme.flash_attention,
// python/mneme_ops.cc.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <tuple>

namespace mneme {

struct FlashOptions {
  std::optional<double> scale;  // default: head_dim^-0.5
  bool causal = false;          // aligned to the last key: query i sees keys j <= i + Sk - Sq
  int64_t window_left = -1, window_right = -1;   // keys on each side of that diagonal; -1: all
  double softcap = 0;                            // s = softcap * tanh(s / softcap); 0: none
  at::Tensor alibi_slopes;                       // f32 [H] or [B, H]; undefined: none
  double dropout_p = 0;                          // [0, 1)
  int64_t dropout_seed = 0, dropout_offset = 0;  // the mask is a function of these; offset < 2^32
  bool heads_first = false;                      // q, k, v, o as [B, H, S, D]
};

// q [B, Sq, H, D], k and v [B, Sk, Hk, D] with Hk dividing H -> o like q, lse f32 (f64 for f64) [B,
// H, Sq]. Any strides with the last dimension contiguous are read in place. lse has no gradient;
// rows that see nothing have o = 0 and lse = +infinity. Throws mneme::Error on what does not fit.
std::tuple<at::Tensor, at::Tensor> flash_attention(const at::Tensor& q, const at::Tensor& k,
                                                   const at::Tensor& v,
                                                   const FlashOptions& options = {});

// Packed sequences: q [total_q, H, D], k and v [total_k, Hk, D], cu_seqlens int32 [B + 1] -> o like
// q, lse [H, total_q].
std::tuple<at::Tensor, at::Tensor> flash_attention_varlen(const at::Tensor& q, const at::Tensor& k,
                                                          const at::Tensor& v,
                                                          const at::Tensor& cu_seqlens_q,
                                                          const at::Tensor& cu_seqlens_k,
                                                          const FlashOptions& options = {});

}  // namespace mneme
