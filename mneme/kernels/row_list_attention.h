// Attention of one position over a list of tokens, wherever each of them lies: what sparse attention
// over single tokens reads. A token is one run of bytes, for each KV head its key, then its value, as
// rows; so a token that is read costs its own bytes and no neighbour's, which pages of transposed keys
// (row_page.h) cannot offer. (papers/12 section 3.1, step 4.)
//
//   w = softmax(scale q k_i^T) over the listed i,  out = sum of w_i v_i
//
// The list is cut into splits of a fixed length, whose results are merged in order: the answer
// depends on the list alone, not on threads. Tests: row_list_attention_test.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "mneme/core/dtype.h"
#include "mneme/core/thread_pool.h"

namespace mneme {

struct RowListAttention {
  DType dtype = DType::kF32;  // of what is stored: kF32 or kF16
  int64_t q_heads = 0;
  int64_t kv_heads = 0;  // divides q_heads; query head h reads KV head h / (q_heads / kv_heads)
  int64_t k_dim = 0;
  int64_t v_dim = 0;
  float scale = 1;    // multiplies q . k
  float softcap = 0;  // > 0: s = softcap * tanh(s / softcap)

  // Throws Error naming the value that cannot be.
  void validate() const;
  int64_t element_bytes() const { return dtype == DType::kF16 ? 2 : 4; }
  // Of a token: kv_heads * (k_dim + v_dim) elements.
  int64_t token_bytes() const { return kv_heads * (k_dim + v_dim) * element_bytes(); }
  // So many bytes behind a token's own may be read (their content does not matter): what a block of
  // tokens needs at its end.
  static constexpr int64_t kOverhang = 64;

  // A token's rows to and from floats: k [kv_heads, k_dim], v [kv_heads, v_dim]. Writing throws Error
  // on a number that cannot be stored (NaN, infinity, too large for f16).
  void write_token(const float* k, const float* v, std::byte* token) const;
  void read_token(const std::byte* token, float* k, float* v) const;
};

// Scratch that grows to the largest call and is then reused.
struct RowListScratch {
  std::vector<float> floats;
};

// tokens   [n] at least one, in any order; each with token_bytes() bytes and the overhang
// q        [q_heads, k_dim]
// out      [q_heads, v_dim], overwritten
// weights  [n], overwritten with the softmax weights of all query heads added up; null: not wanted
// Cost: n * q_heads * (k_dim + v_dim) multiply-adds, n * token_bytes() read.
void row_list_attention(const RowListAttention& config, std::span<const std::byte* const> tokens,
                        const float* q, float* out, float* weights, RowListScratch& scratch,
                        ThreadPool& pool);

}  // namespace mneme
