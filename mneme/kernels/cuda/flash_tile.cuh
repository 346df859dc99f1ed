// What the forward and backward kernels of flash_attention.h share: parameters, how rows of a tile
// map to queries and heads, which keys a row sees, and the score of a pair.
//
// A row is a query of one of the heads that share a KV head: row r of a sequence is query r / ratio
// of head kv_head * ratio + r % ratio, as on the CPU, so that keys are read once for a group.
#pragma once

#include "mneme/kernels/cuda/fragments.cuh"

namespace mneme::cuda {

// Strides in elements, as HeadStrides.
struct DeviceHeads {
  char* data;
  int64_t batch, token, head;
};

struct FlashParams {
  DeviceHeads q, k, v, o, dout, dq, dk, dv;
  float* lse;           // [B, q_heads, q_len] or packed [q_heads, total]
  float* delta;         // the same shape: rowsum(dout * o)
  const float* slopes;  // [q_heads] or [B, q_heads], or null
  const int32_t* cu_q;  // device; packed sequences, or null
  const int32_t* cu_k;
  int64_t slope_batch;               // elements from one batch's slopes to the next
  int64_t lse_batch, lse_head;       // strides of lse and delta
  int32_t q_heads, ratio, head_dim;  // ratio = q_heads / kv_heads
  int32_t q_len, k_len;              // of every sequence where they are not packed
  int32_t left, right;               // -1: no limit; right with causal applied
  float scale;                       // of the gradients
  float factor;                      // score = factor * q . k in units of log2, or tanh's argument
  float cap;                         // > 0: score = cap * tanh(factor * q . k), in units of log2
  float keep_scale;                  // 1 / (1 - dropout)
  uint32_t keep_from;                // the smallest Philox word that is kept; 0: no dropout
  uint32_t seed_low, seed_high, dropout_offset;
  bool wide;  // every row of every tensor is whole 16-byte pieces
};

struct Sequence {
  int32_t batch, q_begin, k_begin, q_len, k_len;
  int32_t off;  // k_len - q_len
};

MNEME_DEVICE Sequence sequence_of(const FlashParams& p, int batch) {
  Sequence s{batch, 0, 0, p.q_len, p.k_len, 0};
  if (p.cu_q != nullptr) {
    s.q_begin = p.cu_q[batch];
    s.k_begin = p.cu_k[batch];
    s.q_len = p.cu_q[batch + 1] - s.q_begin;
    s.k_len = p.cu_k[batch + 1] - s.k_begin;
  }
  s.off = s.k_len - s.q_len;
  return s;
}

// Where a token of a head begins; packed sequences count tokens over the whole batch.
template <class T>
MNEME_DEVICE typename T::Storage* row_at(const FlashParams& p, const DeviceHeads& heads,
                                         const Sequence& s, int64_t first, int64_t token,
                                         int64_t head) {
  const int64_t at = (p.cu_q != nullptr ? (first + token) * heads.token
                                        : s.batch * heads.batch + token * heads.token) +
                     head * heads.head;
  return reinterpret_cast<typename T::Storage*>(heads.data) + at;
}
template <class T>
MNEME_DEVICE typename T::Storage* query_row(const FlashParams& p, const DeviceHeads& heads,
                                            const Sequence& s, int kv_head, int row) {
  return row_at<T>(p, heads, s, s.q_begin, row / p.ratio, kv_head * p.ratio + row % p.ratio);
}
MNEME_DEVICE int64_t lse_at(const FlashParams& p, const Sequence& s, int kv_head, int row) {
  const int64_t first = p.cu_q != nullptr ? s.q_begin : s.batch * p.lse_batch;
  return first + (kv_head * p.ratio + row % p.ratio) * p.lse_head + row / p.ratio;
}

// The keys low..high that query i sees; none where low > high.
MNEME_DEVICE int first_key(const FlashParams& p, const Sequence& s, int i) {
  return p.left < 0 ? 0 : at_least(0, i + s.off - p.left);
}
MNEME_DEVICE int last_key(const FlashParams& p, const Sequence& s, int i) {
  return p.right < 0 ? s.k_len - 1 : at_most(s.k_len - 1, i + s.off + p.right);
}

// What scores of one row need besides the dot products.
struct RowTerms {
  int low, high;            // visible keys; low > high for rows that are not there
  float position;           // i + off
  float slope;              // ALiBi's, in units of log2; 0: none
  uint32_t query, counter;  // i and b * q_heads + h, of the dropout counter
};

MNEME_DEVICE RowTerms row_terms(const FlashParams& p, const Sequence& s, int kv_head, int row) {
  const int i = row / p.ratio, head = kv_head * p.ratio + row % p.ratio;
  RowTerms terms;
  const bool exists = i < s.q_len;
  terms.low = exists ? first_key(p, s, i) : 1;
  terms.high = exists ? last_key(p, s, i) : 0;
  terms.position = static_cast<float>(i + s.off);
  terms.slope =
      exists && p.slopes != nullptr ? p.slopes[s.batch * p.slope_batch + head] * kLog2E : 0.0f;
  terms.query = static_cast<uint32_t>(i);
  terms.counter = static_cast<uint32_t>(s.batch * p.q_heads + head);
  return terms;
}

struct Score {
  float value;  // in units of log2; -infinity where the key is not seen
  float slope;  // of the cap: d value / d (factor * q . k), relative to a cap that is not there
};

MNEME_DEVICE Score score_of(const FlashParams& p, const RowTerms& row, int key, float dot) {
  Score score{p.factor * dot, 1.0f};
  if (p.cap > 0) {
    const float bent = tanhf(score.value);
    score = {p.cap * bent, 1 - bent * bent};
  }
  if (row.slope != 0) score.value -= row.slope * fabsf(row.position - static_cast<float>(key));
  if (key < row.low || key > row.high) score.value = -kInfinity;
  return score;
}

// Philox 4x32-10 as kernels/flash_dropout.h: word key % 4 of the counter (key / 4, query, row,
// offset) decides.
MNEME_DEVICE bool dropout_keeps(const FlashParams& p, const RowTerms& row, int key) {
  uint32_t c[4] = {static_cast<uint32_t>(key) / 4, row.query, row.counter, p.dropout_offset};
  uint32_t key0 = p.seed_low, key1 = p.seed_high;
  MNEME_UNROLL
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * c[0], b = uint64_t{0xCD9E8D57u} * c[2];
    const uint32_t next0 = static_cast<uint32_t>(b >> 32) ^ c[1] ^ key0;
    const uint32_t next2 = static_cast<uint32_t>(a >> 32) ^ c[3] ^ key1;
    c[0] = next0;
    c[1] = static_cast<uint32_t>(b);
    c[2] = next2;
    c[3] = static_cast<uint32_t>(a);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  const int which = key % 4;
  const uint32_t word = which == 0 ? c[0] : which == 1 ? c[1] : which == 2 ? c[2] : c[3];
  return word >= p.keep_from;
}
MNEME_DEVICE float dropout_factor(const FlashParams& p, const RowTerms& row, int key) {
  if (p.keep_from == 0) return 1.0f;
  return dropout_keeps(p, row, key) ? p.keep_scale : 0.0f;
}

// Writes fragments [16, kDim] of a warp as rows of a tensor: to(row of the tile) or null.
template <class T, int kDim, class To>
MNEME_DEVICE void store_rows(const float (&out)[kDim / 8][4], int head_dim, const float (&scale)[2],
                             const To& to) {
  const int lane = thread_index() % 32, first_row = thread_index() / 32 * 16 + lane / 4;
  MNEME_UNROLL
  for (int half = 0; half < 2; ++half) {
    typename T::Storage* row = to(first_row + half * 8);
    if (row == nullptr) continue;
    MNEME_UNROLL
    for (int d = 0; d < kDim; d += 8) {
      MNEME_UNROLL
      for (int i = 0; i < 2; ++i) {
        const int at = d + lane % 4 * 2 + i;
        if (at < head_dim) row[at] = from_float(T(), out[d / 8][half * 2 + i] * scale[half]);
      }
    }
  }
}

// Shapes of the tiles: 16 rows a warp, `kColumns` rows of the streamed side a step. Float32 and
// head sizes above 128 take smaller ones, so that both stages fit the 163 KiB of an sm_80 block.
template <class T, int kDim>
struct FlashShape {
  static constexpr int kWarps = kIsFloat<T> && kDim > 128 ? 2 : 4;
  static constexpr int kRows = 16 * kWarps;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kColumns = kIsFloat<T> ? (kDim > 64 ? 16 : 32) : (kDim > 128 ? 32 : 64);
  static constexpr int kBackwardColumns = kIsFloat<T> ? 16 : 32;
};

}  // namespace mneme::cuda
