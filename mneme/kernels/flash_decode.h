// Attention over a cache of keys and values (papers/01 section 2, attention_with_kvcache): appends
// new rows in place, turns them and the queries by rotary embeddings, and attends, with the keys
// cut into splits that are answered side by side and merged by their log-sum-exps (flash-decoding):
//
//   lse = ln sum_s exp(lse_s),   o = sum_s exp(lse_s - lse) o_s
//
// The cache is contiguous or paged, with pages of any size. Where no number of splits is asked for,
// a split is kAutoSplitKeys keys (whole pages): unlike a number chosen for the machine, that makes
// a result independent of batch and threads. Forward only; f32, bf16 and f16. Tests:
// flash_decode_test.cc.
#pragma once

#include <cstdint>

#include "mneme/kernels/flash_attention.h"

namespace mneme {

inline constexpr int64_t kAutoSplitKeys = 512;

struct KvCache {
  // Contiguous [rows, capacity, kv_heads, D], or paged [rows, capacity, kv_heads, D] with a row for
  // each page and capacity tokens on a page.
  MutableHeads k, v;
  int64_t rows = 0, capacity = 0;
  const int32_t* lengths = nullptr;       // [B] tokens in the cache before this call
  const int32_t* row_of = nullptr;        // [B] row of each sequence; null: b (not with pages)
  const int32_t* left_padding = nullptr;  // [B] first tokens to leave out; null: none
  // Paged: token p of sequence b is in page block_table[b, p / capacity]. Entries past the tokens
  // in use are not read.
  const int32_t* block_table = nullptr;  // [B, table_width]
  int64_t table_width = 0;
};

struct KvAppend {
  int64_t tokens = 0;  // appended at lengths[b], lengths[b] + 1, ...
  ConstHeads k, v;     // [B, tokens, kv_heads, D]
};

// Turns the first 2 * half of a head's values. Positions count from the first token that is not
// padding: new keys by their own; query i as key lengths[b] + i where the mask is causal or
// windowed, else all queries as key lengths[b].
struct KvRotary {
  const float* cosines = nullptr;  // [positions, half]
  const float* sines = nullptr;
  int64_t positions = 0, half = 0;  // half 0: no rotation
  bool interleaved = true;          // pairs (0, 1), (2, 3), ..., or (i, half + i)
};

// Optional results of each split: o normalised inside it, lse -infinity where it holds nothing
// seen.
struct SplitResults {
  float* o = nullptr;    // [splits, B, H, q_len, D]
  float* lse = nullptr;  // [splits, B, H, q_len]
};

// config: batch, q_len, heads, head_dim, scale and masks; k_len, cu_* and dropout are not used. q,
// o [B, q_len, q_heads, D], lse [B, q_heads, q_len] or null. splits: 0 for the rule above, else
// each takes ceil(units / splits) pages (contiguous: blocks of 128 keys), some perhaps none.
// `results` needs splits > 0. Throws Error before anything is written when a cache would overflow,
// a page does not exist, or sizes do not fit.
void attention_with_kv_cache(const FlashAttention& config, const ConstHeads& q,
                             const KvCache& cache, const KvAppend& append, const KvRotary& rotary,
                             int64_t splits, const MutableHeads& o, float* lse,
                             const SplitResults& results, AttentionScratch& scratch,
                             ThreadPool& pool);

}  // namespace mneme
