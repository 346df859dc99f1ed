// The products of FlashAttention, per SIMD target. All five have one form, with the query rows of a
// tile or the dimensions of a head in the lanes:
//
//   c [rows, columns] (+)= sum over k of a [row, k] * b [k, columns]
//
// where a is broadcast word by word, from rows (a + row * stride + k) or from columns (a + k *
// stride
// + row), and b is read in vectors. So keys and values are used as they lie in memory: neither is
// transposed or padded, and an odd head size or key count costs nothing. A word is a float, or a
// pair of bf16 (elements 2k and 2k + 1) where the machine has dot products of them. Every element
// of c is one chain of multiply-adds in the order of k, whatever the tile. Tests:
// flash_attention_test.cc.
#if defined(MNEME_KERNELS_FLASH_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_KERNELS_FLASH_PRODUCT_INL_H_
#undef MNEME_KERNELS_FLASH_PRODUCT_INL_H_
#else
#define MNEME_KERNELS_FLASH_PRODUCT_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = HWY_CAPPED(float, 16);
using FloatVector = hn::Vec<Floats>;
constexpr int64_t kLanes = hn::MaxLanes(Floats());

// A register tile: 6 x 4 accumulators of 32 registers, or 6 x 2 of 16.
constexpr int kProductRows = 6;
constexpr int kProductVectors = kLanes == 16 ? 4 : 2;

// Where the instruction fits the vectors; whether the machine has it is asked at run time.
#undef MNEME_BF16_WORDS
#if HWY_TARGET == HWY_AVX3
#define MNEME_BF16_WORDS 1
#else
#define MNEME_BF16_WORDS 0
#endif

enum class WordKind { kFloat, kBF16Pair };
enum class Broadcast { kRows, kColumns };

template <WordKind kKind>
HWY_INLINE FloatVector multiply_add(FloatVector a, FloatVector b, FloatVector sum) {
#if MNEME_BF16_WORDS
  if constexpr (kKind == WordKind::kBF16Pair) {
    // Not an intrinsic: those need the instruction set switched on for the whole function.
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum.raw) : "v"(a.raw), "v"(b.raw));
    return sum;
  }
#endif
  return hn::MulAdd(a, b, sum);
}

// What c holds before the sum: nothing (the sum is then multiplied by `factor`), itself, or itself
// times a factor for each column.
struct Start {
  const float* column_factors = nullptr;
  bool keep = false;
  float factor = 1;
};

template <WordKind kKind, Broadcast kBroadcast, int kRows, int kVectors>
HWY_NOINLINE void product_tile(const float* HWY_RESTRICT a, int64_t a_stride, int64_t depth,
                               const float* HWY_RESTRICT b, int64_t b_stride, const Start& from,
                               float* HWY_RESTRICT c, int64_t c_stride) {
  const Floats d;
  const Start start = from;  // a copy, which stores cannot change
  FloatVector acc[kRows][kVectors];
  HWY_UNROLL(6)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) {
      acc[r][v] = hn::Zero(d);
      if (start.keep) {
        acc[r][v] = hn::LoadU(d, c + r * c_stride + v * kLanes);
        if (start.column_factors != nullptr) {
          acc[r][v] = hn::Mul(acc[r][v], hn::LoadU(d, start.column_factors + v * kLanes));
        }
      }
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    FloatVector row[kVectors];
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) row[v] = hn::LoadU(d, b + k * b_stride + v * kLanes);
    HWY_UNROLL(6)
    for (int r = 0; r < kRows; ++r) {
      const float* word =
          kBroadcast == Broadcast::kRows ? a + r * a_stride + k : a + k * a_stride + r;
      const FloatVector wide = hn::Set(d, *word);
      HWY_UNROLL(4)
      for (int v = 0; v < kVectors; ++v) {
        acc[r][v] = multiply_add<kKind>(wide, row[v], acc[r][v]);
      }
    }
  }
  // Else the compiler works out the 24 addresses of c before the loop and has no register left for a
  // vector of b.
  asm("" : "+r"(c), "+r"(c_stride));
  const FloatVector factor = hn::Set(d, start.factor);
  HWY_UNROLL(6)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) {
      const FloatVector sum = start.keep ? acc[r][v] : hn::Mul(acc[r][v], factor);
      hn::StoreU(sum, d, c + r * c_stride + v * kLanes);
    }
  }
}

// All rows of kVectors vectors of columns.
template <WordKind kKind, Broadcast kBroadcast, int kVectors>
HWY_INLINE void product_columns(const float* a, int64_t a_stride, int64_t rows, int64_t depth,
                                const float* b, int64_t b_stride, const Start& start, float* c,
                                int64_t c_stride) {
  const int64_t step = kBroadcast == Broadcast::kRows ? a_stride : 1;
  int64_t r = 0;
  for (; r + kProductRows <= rows; r += kProductRows) {
    product_tile<kKind, kBroadcast, kProductRows, kVectors>(
        a + r * step, a_stride, depth, b, b_stride, start, c + r * c_stride, c_stride);
  }
  if (rows - r >= 4) {
    product_tile<kKind, kBroadcast, 4, kVectors>(a + r * step, a_stride, depth, b, b_stride, start,
                                                 c + r * c_stride, c_stride);
    r += 4;
  }
  if (rows - r >= 2) {
    product_tile<kKind, kBroadcast, 2, kVectors>(a + r * step, a_stride, depth, b, b_stride, start,
                                                 c + r * c_stride, c_stride);
    r += 2;
  }
  if (rows - r >= 1) {
    product_tile<kKind, kBroadcast, 1, kVectors>(a + r * step, a_stride, depth, b, b_stride, start,
                                                 c + r * c_stride, c_stride);
  }
}

// columns is a multiple of kLanes; depth counts words.
template <WordKind kKind, Broadcast kBroadcast>
HWY_INLINE void product(const float* a, int64_t a_stride, int64_t rows, int64_t depth,
                        const float* b, int64_t b_stride, int64_t columns, Start start, float* c,
                        int64_t c_stride) {
  const auto skip = [&](int64_t vectors) {
    b += vectors * kLanes;
    c += vectors * kLanes;
    columns -= vectors * kLanes;
    if (start.column_factors != nullptr) start.column_factors += vectors * kLanes;
  };
  while (columns >= kProductVectors * kLanes) {
    product_columns<kKind, kBroadcast, kProductVectors>(a, a_stride, rows, depth, b, b_stride,
                                                        start, c, c_stride);
    skip(kProductVectors);
  }
  if constexpr (kProductVectors > 2) {
    if (columns >= 2 * kLanes) {
      product_columns<kKind, kBroadcast, 2>(a, a_stride, rows, depth, b, b_stride, start, c,
                                            c_stride);
      skip(2);
    }
  }
  if (columns >= kLanes) {
    product_columns<kKind, kBroadcast, 1>(a, a_stride, rows, depth, b, b_stride, start, c,
                                          c_stride);
  }
}

// c [rows, columns] = sum over k of (a [row, k] - shift [k, columns]) * b [k, columns], a broadcast
// from rows: the differences are taken first because the sums of both halves can be alike to the
// last bits.
constexpr int kDifferenceRows = kLanes == 16 ? 5 : 4;

template <int kRows, int kVectors>
HWY_NOINLINE void difference_tile(const float* HWY_RESTRICT a, int64_t a_stride, int64_t depth,
                                  const float* HWY_RESTRICT shift, const float* HWY_RESTRICT b,
                                  int64_t b_stride, float* HWY_RESTRICT c, int64_t c_stride) {
  const Floats d;
  FloatVector acc[kRows][kVectors];
  HWY_UNROLL(5)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) acc[r][v] = hn::Zero(d);
  }
  for (int64_t k = 0; k < depth; ++k) {
    FloatVector from[kVectors], by[kVectors];
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) {
      from[v] = hn::LoadU(d, shift + k * b_stride + v * kLanes);
      by[v] = hn::LoadU(d, b + k * b_stride + v * kLanes);
    }
    HWY_UNROLL(5)
    for (int r = 0; r < kRows; ++r) {
      const FloatVector wide = hn::Set(d, a[r * a_stride + k]);
      HWY_UNROLL(4)
      for (int v = 0; v < kVectors; ++v) {
        acc[r][v] = hn::MulAdd(hn::Sub(wide, from[v]), by[v], acc[r][v]);
      }
    }
  }
  HWY_UNROLL(5)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) hn::StoreU(acc[r][v], d, c + r * c_stride + v * kLanes);
  }
}

template <int kVectors>
HWY_INLINE void difference_columns(const float* a, int64_t a_stride, int64_t rows, int64_t depth,
                                   const float* shift, const float* b, int64_t b_stride, float* c,
                                   int64_t c_stride) {
  int64_t r = 0;
  for (; r + kDifferenceRows <= rows; r += kDifferenceRows) {
    difference_tile<kDifferenceRows, kVectors>(a + r * a_stride, a_stride, depth, shift, b,
                                               b_stride, c + r * c_stride, c_stride);
  }
  for (; r + 2 <= rows; r += 2) {
    difference_tile<2, kVectors>(a + r * a_stride, a_stride, depth, shift, b, b_stride,
                                 c + r * c_stride, c_stride);
  }
  if (r < rows) {
    difference_tile<1, kVectors>(a + r * a_stride, a_stride, depth, shift, b, b_stride,
                                 c + r * c_stride, c_stride);
  }
}

HWY_INLINE void difference_product(const float* a, int64_t a_stride, int64_t rows, int64_t depth,
                                   const float* shift, const float* b, int64_t b_stride,
                                   int64_t columns, float* c, int64_t c_stride) {
  constexpr int64_t kStep = kProductVectors * kLanes;
  int64_t at = 0;
  for (; at + kStep <= columns; at += kStep) {
    difference_columns<kProductVectors>(a, a_stride, rows, depth, shift + at, b + at, b_stride,
                                        c + at, c_stride);
  }
  for (; at < columns; at += kLanes) {
    difference_columns<1>(a, a_stride, rows, depth, shift + at, b + at, b_stride, c + at, c_stride);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#endif
