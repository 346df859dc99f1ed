// The one product that attention is made of, per SIMD target: c [rows, columns] (+)= a [rows, K]
// times b [K, columns], where b is a page's keys (K = dimensions, columns = rows of the page) or
// its values (K = rows of the page, columns = dimensions), read as the floats they are stored as.
// Every element of c is a chain of multiply-adds in the order of K, whatever the tile: that is what
// makes answers independent of how queries are grouped. Tests: paged_attention_test.cc.
#if defined(MNEME_KERNELS_ATTENTION_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_KERNELS_ATTENTION_PRODUCT_INL_H_
#undef MNEME_KERNELS_ATTENTION_PRODUCT_INL_H_
#else
#define MNEME_KERNELS_ATTENTION_PRODUCT_INL_H_
#endif

#include <hwy/highway.h>

#include <cstddef>
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

// Readers of b. read<V>(k, column) is the vector of row k at column + V * kLanes, where `column` is
// a multiple of kTileColumns. Readers of stored rows bring the same row of what lies `ahead` bytes
// further to the second-level cache: a line for a line, which keeps the memory as busy as the
// products. (Measured on Zen 4: leaving a part of it to the softmax made decoding 20-30 % slower.)
struct F32Reader {  // an expanded copy
  static constexpr bool kFloats = true;
  const float* data;
  int64_t stride;  // elements
  template <int V>
  HWY_INLINE FloatVector read(int64_t k, int64_t column) const {
    return hn::LoadU(Floats(), data + k * stride + column + V * kLanes);
  }
};

template <typename T>  // float, hwy::float16_t or hwy::bfloat16_t
struct StoredReader {
  static constexpr bool kFloats = std::is_same_v<T, float>;
  const T* data;
  int64_t stride;
  int64_t ahead;
  template <int V>
  HWY_INLINE FloatVector read(int64_t k, int64_t column) const {
    const T* from = data + k * stride + column + V * kLanes;
    if constexpr (kFloats) {
      return hn::LoadU(Floats(), from);
    } else {
      return hn::PromoteTo(Floats(), hn::LoadU(hn::Rebind<T, Floats>(), from));
    }
  }
  template <int kVectors>
  HWY_INLINE void fetch(int64_t k, int64_t column) const {
    const auto* from = reinterpret_cast<const std::byte*>(data + k * stride + column);
    constexpr int64_t kBytes = kVectors * kLanes * static_cast<int64_t>(sizeof(T));
    MNEME_UNROLL
    for (int64_t line = 0; line < kBytes; line += 64) fetch_line(from + line, ahead);
  }
};

// One row of b into the accumulators.
template <int kRows, int kVectors, class B>
HWY_INLINE void multiply_step(const float* HWY_RESTRICT a, int64_t a_stride, int64_t k, const B& b,
                              int64_t column, FloatVector (&acc)[kRows][kVectors]) {
  const Floats d;
  FloatVector row[kVectors];
  row[0] = b.template read<0>(k, column);
  if constexpr (kVectors > 1) row[1] = b.template read<1>(k, column);
  if constexpr (kVectors > 2) row[2] = b.template read<2>(k, column);
  if constexpr (kVectors > 3) row[3] = b.template read<3>(k, column);
  MNEME_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const FloatVector factor = hn::Set(d, a[r * a_stride + k]);
    MNEME_UNROLL
    for (int v = 0; v < kVectors; ++v) acc[r][v] = hn::MulAdd(factor, row[v], acc[r][v]);
  }
}

// c [kRows, kVectors * kLanes] = a b over k in [begin, end), or c + a b.
template <int kRows, int kVectors, class B>
HWY_NOINLINE void multiply_tile(const float* HWY_RESTRICT a, int64_t a_stride, int64_t begin,
                                int64_t end, const B& reader, int64_t column, bool add,
                                float* HWY_RESTRICT c, int64_t c_stride) {
  const Floats d;
  const B b = reader;
  FloatVector acc[kRows][kVectors];
  MNEME_UNROLL
  for (int r = 0; r < kRows; ++r) {
    MNEME_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      acc[r][v] = add ? hn::LoadU(d, c + r * c_stride + v * kLanes) : hn::Zero(d);
    }
  }
  for (int64_t k = begin; k < end; ++k) {
    if constexpr (requires { b.ahead; }) b.template fetch<kVectors>(k, column);
    multiply_step(a, a_stride, k, b, column, acc);
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
// kTileColumns for readers that convert.
template <int kRows, class B>
HWY_INLINE void multiply(const float* a, int64_t a_stride, int64_t begin, int64_t end, const B& b,
                         int64_t column, int64_t columns, bool add, float* c, int64_t c_stride) {
  const int64_t stop = column + columns;
  for (; column + kTileColumns <= stop; column += kTileColumns, c += kTileColumns) {
    multiply_tile<kRows, kTileVectors>(a, a_stride, begin, end, b, column, add, c, c_stride);
  }
  if constexpr (B::kFloats) {
    const int64_t vectors = (stop - column) / kLanes;
    if (vectors == 1) {
      multiply_tile<kRows, 1>(a, a_stride, begin, end, b, column, add, c, c_stride);
    }
    if constexpr (kTileVectors > 2) {
      if (vectors == 2) {
        multiply_tile<kRows, 2>(a, a_stride, begin, end, b, column, add, c, c_stride);
      } else if (vectors == 3) {
        multiply_tile<kRows, 3>(a, a_stride, begin, end, b, column, add, c, c_stride);
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#endif
