// FlashAttention-2 (papers/01, arXiv 2307.08691): exact softmax attention, forward and backward,
// that never holds the matrix of scores.
//
//   s[i, j] = scale * q[i] . k[j]          softcap > 0: s = softcap * tanh(s / softcap)
//   s[i, j] -= slope[h] * |i + off - j|    where ALiBi slopes are given, off = k_len - q_len
//   o[i] = sum_j exp(s[i, j] - lse[i]) v[j],   lse[i] = ln sum_j exp(s[i, j])
//
// over the keys that query i may see: j <= i + off + right and j >= i + off - left (causal: right =
// 0). A query that sees nothing gives o = 0, lse = +infinity and no gradient. Query head h reads KV
// head h / (q_heads / kv_heads); gradients of k and v are sums over a group's query heads.
//
// Types: f32, and bf16 and f16 with float32 scores, sums and accumulators; f64 in float64
// throughout. bf16 uses the machine's bf16 dot products where it has them: the weights (forward)
// and their gradients (backward) are then rounded to bf16 as operands of the second product.
//
// The order of every sum is fixed by positions alone: results do not depend on the number of
// threads, on the batch around a sequence, or (o, lse) on which other queries are asked. Keys that
// are masked for a query but seen by a neighbour in its tile are multiplied by zero: their values
// must be finite. Tests: flash_attention_test.cc, flash_backward_test.cc, flash_golden_test.cc.
#pragma once

#include <cstdint>

#include "mneme/core/dtype.h"
#include "mneme/core/thread_pool.h"

namespace mneme {

class AttentionScratch;

// Strides in elements; the head_dim values of a head are contiguous.
struct HeadStrides {
  int64_t batch = 0, token = 0, head = 0;
};

// Contiguous [B, S, H, D] and [B, H, S, D].
constexpr HeadStrides token_major(int64_t tokens, int64_t heads, int64_t dim) {
  return {tokens * heads * dim, heads * dim, dim};
}
constexpr HeadStrides head_major(int64_t tokens, int64_t heads, int64_t dim) {
  return {heads * tokens * dim, dim, tokens * dim};
}

struct ConstHeads {
  const void* data = nullptr;
  HeadStrides strides;
};
struct MutableHeads {
  void* data = nullptr;
  HeadStrides strides;
};

// Whether dot products of bf16 pairs do more than float32 multiply-adds on this machine: twice as
// much on AMD's Zen 4, half as much on Intel's Xeons (bench_machine measures both).
bool bf16_products_pay();

struct FlashAttention {
  DType dtype = DType::kF32;  // of every tensor but lse and the slopes: kF32, kBF16, kF16 or kF64
  int64_t batch = 0;
  int64_t q_len = 0, k_len = 0;  // tokens of each sequence; packed: of all sequences together
  int64_t q_heads = 0;
  int64_t kv_heads = 0;  // divides q_heads
  int64_t head_dim = 0;  // 1..kMaxFlashDim
  double scale = 1;      // usually head_dim^-0.5
  bool causal = false;
  int64_t window_left = -1, window_right = -1;  // keys on each side; -1: all of them
  double softcap = 0;                           // 0: none
  const float* alibi_slopes = nullptr;          // [q_heads], or [batch, q_heads]; null: none
  bool alibi_per_batch = false;
  double dropout = 0;           // probability of dropping a weight, [0, 1)
  uint64_t dropout_seed = 0;    // with the offset, the whole state of the generator: the mask is a
  uint32_t dropout_offset = 0;  // function of both and of (b, h, i, j), flash_dropout.h
  // Packed sequences of different lengths: sequence b is tokens [cu_q[b], cu_q[b + 1]) of q and o
  // and [cu_k[b], cu_k[b + 1]) of k and v, and the batch strides are not used. Both or neither.
  const int32_t* cu_q = nullptr;             // [batch + 1]
  const int32_t* cu_k = nullptr;             // [batch + 1]
  bool bf16_products = bf16_products_pay();  // where the machine has them; else bf16 becomes f32
};

inline constexpr int64_t kMaxFlashDim = 4096;

// q, o [B, q_len, q_heads, D]; k, v [B, k_len, kv_heads, D], each with its own strides; lse [B,
// q_heads, q_len] (packed [q_heads, total_q]), natural logarithm, float (f64: double), may be null.
// Cost: 4 * q_heads * D operations for every visible pair; memory beyond the outputs is constant
// for a thread. Throws Error naming what does not fit, before anything is written.
void flash_forward(const FlashAttention& config, const ConstHeads& q, const ConstHeads& k,
                   const ConstHeads& v, const MutableHeads& o, void* lse, AttentionScratch& scratch,
                   ThreadPool& pool);

struct FlashGradients {
  MutableHeads dq, dk, dv;  // shaped as q, k, v
};

// From dout (shaped as o), the inputs of the forward call and its o and lse. Recomputes the
// weights: 2.5 times the forward operations. Memory beyond the outputs is linear: a float32 copy of
// dq and one float a query row.
void flash_backward(const FlashAttention& config, const ConstHeads& dout, const ConstHeads& q,
                    const ConstHeads& k, const ConstHeads& v, const ConstHeads& o, const void* lse,
                    const FlashGradients& gradients, AttentionScratch& scratch, ThreadPool& pool);

}  // namespace mneme
