// The one product that attention is made of, per SIMD target: c [rows, columns] (+)= a [rows, K]
// times b [K, columns], where b is a page's keys (K = dimensions, columns = rows of the page) or
// its values (K = rows of the page, columns = dimensions), read in their stored encoding. Every
// element of c is a chain of multiply-adds in the order of K, whatever the tile: that is what makes
// answers independent of how queries are grouped. Tests: paged_attention_test.cc.
#if defined(MNEME_KERNELS_ATTENTION_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_KERNELS_ATTENTION_PRODUCT_INL_H_
#undef MNEME_KERNELS_ATTENTION_PRODUCT_INL_H_
#else
#define MNEME_KERNELS_ATTENTION_PRODUCT_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>
#include <type_traits>

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = HWY_CAPPED(float, 16);
using FloatVector = hn::Vec<Floats>;
constexpr int64_t kLanes = hn::MaxLanes(Floats());
// A register tile: kTileRows x kTileVectors accumulators, the vectors of b and one broadcast.
constexpr int kTileRows = 6;
constexpr int kTileVectors = kLanes == 16 ? 4 : 2;  // AVX-512 has twice the registers
constexpr int64_t kTileColumns = kTileVectors * kLanes;

#if HWY_COMPILER_CLANG
#define MNEME_UNROLL _Pragma("clang loop unroll(full)")
#else
#define MNEME_UNROLL _Pragma("GCC unroll 16")
#endif

HWY_INLINE void fetch_line(const void* from, int64_t ahead) {
  __builtin_prefetch(static_cast<const char*>(from) + ahead, 0, 2);
}

// Readers of b. read<S, V>(k, column) is the vector of row k + S at column + V * kLanes, where
// `column` is a multiple of kTileColumns and k of kStep. Readers of codes bring the same row of the
// page that lies `ahead` bytes further to the second-level cache. Measured on Zen 4 with rows in
// memory: q8 decodes 1.9 and q4 1.5 times faster for it, 16-bit rows 14 % slower, so their readers
// leave it to the hardware.
struct F32Reader {
  static constexpr int kStep = 1;
  const float* data;
  int64_t stride;  // elements
  template <int S, int V>
  HWY_INLINE FloatVector read(int64_t k, int64_t column) const {
    return hn::LoadU(Floats(), data + k * stride + column + V * kLanes);
  }
};

template <typename Half>  // hwy::float16_t or hwy::bfloat16_t
struct HalfReader {
  static constexpr int kStep = 1;
  const Half* data;
  int64_t stride;
  template <int S, int V>
  HWY_INLINE FloatVector read(int64_t k, int64_t column) const {
    const hn::Rebind<Half, Floats> dh;
    return hn::PromoteTo(Floats(), hn::LoadU(dh, data + k * stride + column + V * kLanes));
  }
};

struct Q8Reader {
  static constexpr int kStep = 1;
  const int8_t* data;
  int64_t stride;
  int64_t ahead;
  HWY_INLINE void fetch(int64_t k) const { fetch_line(data + k * stride, ahead); }
  template <int S, int V>
  HWY_INLINE FloatVector read(int64_t k, int64_t column) const {
    const hn::Rebind<int8_t, Floats> db;
    const hn::Rebind<int32_t, Floats> di;
    const auto codes = hn::LoadU(db, data + k * stride + column + V * kLanes);
    return hn::ConvertTo(Floats(), hn::PromoteTo(di, codes));
  }
};

// The low nibble of every word, minus 8, as float.
template <class V32>
HWY_INLINE FloatVector nibble_value(V32 words) {
  const Floats d;
#if HWY_TARGET <= HWY_AVX3
  HWY_ALIGN static constexpr float kValues[16] = {-8, -7, -6, -5, -4, -3, -2, -1,
                                                  0,  1,  2,  3,  4,  5,  6,  7};
  // The permutation looks at four bits of each index only.
  return hn::TableLookupLanes(hn::Load(d, kValues), hn::Indices512<float>{words.raw});
#else
  const hn::RebindToSigned<Floats> di;
  const auto code = hn::And(hn::BitCast(di, words), hn::Set(di, 15));
  return hn::ConvertTo(d, hn::Sub(code, hn::Set(di, 8)));
#endif
}

struct Q4KeyReader {
  static constexpr int kStep = 2;
  const uint8_t* data;
  int64_t ahead;
  HWY_INLINE void fetch(int64_t k) const { fetch_line(data + k / 2 * 64, ahead); }
  template <int S, int V>
  HWY_INLINE FloatVector read(int64_t k, int64_t column) const {
    const hn::RebindToUnsigned<Floats> du;
    const uint8_t* line = data + k / 2 * 64;
    if constexpr (kLanes == 16) {
      const auto words = hn::LoadU(du, reinterpret_cast<const uint32_t*>(line));
      return nibble_value(hn::ShiftRight<8 * V + 4 * S>(words));
    } else {
      const int64_t row = column + V * kLanes;
      const auto words = hn::LoadU(du, reinterpret_cast<const uint32_t*>(line) + row % 16);
      return nibble_value(hn::ShiftRightSame(words, static_cast<int>(8 * (row / 16) + 4 * S)));
    }
  }
};

struct Q4ValueReader {
  static constexpr int kStep = 1;
  const uint8_t* data;
  int64_t stride;  // bytes
  int64_t ahead;
  HWY_INLINE void fetch(int64_t k) const { fetch_line(data + k * stride, ahead); }
  template <int S, int V>
  HWY_INLINE FloatVector read(int64_t k, int64_t column) const {
    const hn::RebindToUnsigned<Floats> du;
    const hn::Rebind<uint8_t, Floats> db;
    const uint8_t* line = data + k * stride;
    if constexpr (kLanes == 16) {
      const auto words = hn::PromoteTo(du, hn::LoadU(db, line + column / 2 + V / 2 * 16));
      return nibble_value(hn::ShiftRight<V % 2 * 4>(words));
    } else {
      const int64_t at = column + V * kLanes;
      const auto words = hn::PromoteTo(du, hn::LoadU(db, line + at / 32 * 16 + at % 16));
      return nibble_value(hn::ShiftRightSame(words, static_cast<int>(at % 32 / 16 * 4)));
    }
  }
};

// One row of b into the accumulators.
template <int S, int kRows, int kVectors, class B>
HWY_INLINE void multiply_step(const float* HWY_RESTRICT a, int64_t a_stride, int64_t k, const B& b,
                              int64_t column, FloatVector (&acc)[kRows][kVectors]) {
  const Floats d;
  FloatVector row[kVectors];
  row[0] = b.template read<S, 0>(k, column);
  if constexpr (kVectors > 1) row[1] = b.template read<S, 1>(k, column);
  if constexpr (kVectors > 2) row[2] = b.template read<S, 2>(k, column);
  if constexpr (kVectors > 3) row[3] = b.template read<S, 3>(k, column);
  MNEME_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const FloatVector factor = hn::Set(d, a[r * a_stride + k + S]);
    MNEME_UNROLL
    for (int v = 0; v < kVectors; ++v) acc[r][v] = hn::MulAdd(factor, row[v], acc[r][v]);
  }
}

// c [kRows, kVectors * kLanes] = alpha [kRows] * c + a b over k in [begin, end); without alpha, c =
// a b. begin and end are multiples of B::kStep.
template <int kRows, int kVectors, class B>
HWY_NOINLINE void multiply_tile(const float* HWY_RESTRICT a, int64_t a_stride, int64_t begin,
                                int64_t end, const B& reader, int64_t column, const float* alpha,
                                float* HWY_RESTRICT c, int64_t c_stride) {
  const Floats d;
  const B b = reader;
  FloatVector acc[kRows][kVectors];
  MNEME_UNROLL
  for (int r = 0; r < kRows; ++r) {
    MNEME_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      acc[r][v] = alpha == nullptr
                      ? hn::Zero(d)
                      : hn::Mul(hn::Set(d, alpha[r]), hn::LoadU(d, c + r * c_stride + v * kLanes));
    }
  }
  for (int64_t k = begin; k < end; k += B::kStep) {
    if constexpr (requires { b.fetch(k); }) b.fetch(k);
    multiply_step<0>(a, a_stride, k, b, column, acc);
    if constexpr (B::kStep == 2) multiply_step<1>(a, a_stride, k, b, column, acc);
  }
  MNEME_UNROLL
  for (int r = 0; r < kRows; ++r) {
    MNEME_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      hn::StoreU(acc[r][v], d, c + r * c_stride + v * kLanes);
    }
  }
}

// The same over columns [0, columns) from `column` on; `columns` is a multiple of kLanes, and of
// kTileColumns for every reader but F32Reader.
template <int kRows, class B>
HWY_INLINE void multiply(const float* a, int64_t a_stride, int64_t begin, int64_t end, const B& b,
                         int64_t column, int64_t columns, const float* alpha, float* c,
                         int64_t c_stride) {
  const int64_t stop = column + columns;
  for (; column + kTileColumns <= stop; column += kTileColumns, c += kTileColumns) {
    multiply_tile<kRows, kTileVectors>(a, a_stride, begin, end, b, column, alpha, c, c_stride);
  }
  if constexpr (std::is_same_v<B, F32Reader>) {
    const int64_t vectors = (stop - column) / kLanes;
    if (vectors == 1) {
      multiply_tile<kRows, 1>(a, a_stride, begin, end, b, column, alpha, c, c_stride);
    }
    if constexpr (kTileVectors > 2) {
      if (vectors == 2) {
        multiply_tile<kRows, 2>(a, a_stride, begin, end, b, column, alpha, c, c_stride);
      } else if (vectors == 3) {
        multiply_tile<kRows, 3>(a, a_stride, begin, end, b, column, alpha, c, c_stride);
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#endif
