// The two matrix products of attention for one warp and 16 rows, between tiles in shared memory and
// fragments in registers. A fragment [16, 8] is a float[4]: lane l holds columns 2 (l % 4) and the
// next of rows l / 4 and l / 4 + 8. Tests: flash_attention_emulated_test.cc.
#pragma once

#include "mneme/kernels/cuda/platform.cuh"

namespace mneme::cuda {

// Elements from one row of a shared tile to the next: 16 bytes of padding put the eight rows that
// are read together into different banks.
template <class T, int kDim>
inline constexpr int kRowStep = kDim + 16 / static_cast<int>(sizeof(typename T::Storage));

template <class T>
inline constexpr bool kIsFloat = sizeof(typename T::Storage) == 4;

// x = high + low, both tf32.
struct SplitFloat {
  uint32_t high, low;
};
MNEME_DEVICE SplitFloat split_float(float x) {
  SplitFloat parts;
  parts.high = to_tf32(x);
#if defined(__CUDACC__)
  parts.low = to_tf32(x - __uint_as_float(parts.high));
#else
  float high;
  std::memcpy(&high, &parts.high, 4);
  parts.low = to_tf32(x - high);
#endif
  return parts;
}

template <int kCount>
MNEME_DEVICE void split_floats(const float (&x)[kCount], uint32_t (&high)[kCount],
                               uint32_t (&low)[kCount]) {
  MNEME_UNROLL
  for (int i = 0; i < kCount; ++i) {
    const SplitFloat parts = split_float(x[i]);
    high[i] = parts.high;
    low[i] = parts.low;
  }
}

// Smallest terms first.
MNEME_DEVICE void multiply_split(float (&c)[4], const uint32_t (&a_high)[4],
                                 const uint32_t (&a_low)[4], const float (&b)[2]) {
  uint32_t b_high[2], b_low[2];
  split_floats(b, b_high, b_low);
  multiply_tf32(c, a_low, b_high);
  multiply_tf32(c, a_high, b_low);
  multiply_tf32(c, a_high, b_high);
}

// s[16, kColumns] += rows[16, kDim] . columns[kColumns, kDim]^T, both tiles in shared memory.
template <class T, int kDim, int kColumns>
MNEME_DEVICE void row_products(float (&s)[kColumns / 8][4], const typename T::Storage* rows,
                               const typename T::Storage* columns) {
  constexpr int kStep = kRowStep<T, kDim>;
  const int lane = thread_index() % 32;
  if constexpr (kIsFloat<T>) {
    const int row = lane / 4, k_lane = lane % 4;
    MNEME_UNROLL_4
    for (int k = k_lane; k < kDim; k += 8) {
      const float a[4] = {rows[row * kStep + k], rows[(row + 8) * kStep + k],
                          rows[row * kStep + k + 4], rows[(row + 8) * kStep + k + 4]};
      uint32_t high[4], low[4];
      split_floats(a, high, low);
      MNEME_UNROLL
      for (int n = 0; n < kColumns; n += 8) {
        const float b[2] = {columns[(n + row) * kStep + k], columns[(n + row) * kStep + k + 4]};
        multiply_split(s[n / 8], high, low, b);
      }
    }
  } else {
    rows += lane % 16 * kStep + lane / 16 * 8;
    columns += (lane % 8 + lane / 16 * 8) * kStep + lane / 8 % 2 * 8;
    MNEME_UNROLL
    for (int k = 0; k < kDim; k += 16) {
      uint32_t a[4];
      load_matrices(a, rows + k);
      MNEME_UNROLL
      for (int n = 0; n < kColumns; n += 16) {
        uint32_t b[4];
        load_matrices(b, columns + n * kStep + k);
        multiply(T(), s[n / 8], a, {b[0], b[1]});
        multiply(T(), s[n / 8 + 1], a, {b[2], b[3]});
      }
    }
  }
}

// out[16, kDim] += s[16, kDepth] . values[kDepth, kDim], s from registers (rounded to T), values
// from shared memory.
template <class T, int kDim, int kDepth>
MNEME_DEVICE void weighted_sums(float (&out)[kDim / 8][4], const float (&s)[kDepth / 8][4],
                                const typename T::Storage* values) {
  constexpr int kStep = kRowStep<T, kDim>;
  const int lane = thread_index() % 32;
  if constexpr (kIsFloat<T>) {
    // The order of the depth is free as long as both sides agree: column 2t of s meets lane t's
    // first register, column 2t + 1 its second, so nothing has to move between lanes.
    values += lane % 4 * 2 * kStep + lane / 4;
    MNEME_UNROLL
    for (int k = 0; k < kDepth; k += 8) {
      const float(&c)[4] = s[k / 8];
      const float a[4] = {c[0], c[2], c[1], c[3]};
      uint32_t high[4], low[4];
      split_floats(a, high, low);
      MNEME_UNROLL
      for (int d = 0; d < kDim; d += 8) {
        const float b[2] = {values[k * kStep + d], values[(k + 1) * kStep + d]};
        multiply_split(out[d / 8], high, low, b);
      }
    }
  } else {
    values += (lane % 8 + lane / 8 % 2 * 8) * kStep + lane / 16 * 8;
    MNEME_UNROLL
    for (int k = 0; k < kDepth; k += 16) {
      const float(&c)[4] = s[k / 8];
      const float(&e)[4] = s[k / 8 + 1];
      const uint32_t a[4] = {pack_pair(T(), c[0], c[1]), pack_pair(T(), c[2], c[3]),
                             pack_pair(T(), e[0], e[1]), pack_pair(T(), e[2], e[3])};
      MNEME_UNROLL
      for (int d = 0; d < kDim; d += 16) {
        uint32_t b[4];
        load_transposed(b, values + k * kStep + d);
        multiply(T(), out[d / 8], a, {b[0], b[1]});
        multiply(T(), out[d / 8 + 1], a, {b[2], b[3]});
      }
    }
  }
}

// Rows of a tensor into a shared tile [kRows, kDim], zeros behind head_dim and for rows that are
// not there (from(row) null). Whole-block; `wide`: every row starts on 16 bytes and head_dim fills
// such pieces, so that they are copied asynchronously (close the group with copy_commit()).
template <class T, int kDim, int kRows, int kThreads, class From>
MNEME_DEVICE void load_tile(typename T::Storage* tile, int head_dim, bool wide,
                            const void* readable, const From& from) {
  using Element = typename T::Storage;
  constexpr int kStep = kRowStep<T, kDim>, kPiece = 16 / static_cast<int>(sizeof(Element));
  for (int at = thread_index(); at < kRows * (kDim / kPiece); at += kThreads) {
    const int row = at / (kDim / kPiece), first = at % (kDim / kPiece) * kPiece;
    const auto* source = static_cast<const Element*>(from(row));
    Element* to = tile + row * kStep + first;
    if (wide) {
      const bool valid = source != nullptr && first < head_dim;
      copy_async(to, valid ? static_cast<const void*>(source + first) : readable, valid);
    } else {
      MNEME_UNROLL
      for (int i = 0; i < kPiece; ++i) {
        const bool valid = source != nullptr && first + i < head_dim;
        to[i] = valid ? source[first + i] : from_float(T(), 0.0f);
      }
    }
  }
}

}  // namespace mneme::cuda
