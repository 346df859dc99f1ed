// Rows of tensors into the words that flash_product-inl.h multiplies, and back, per SIMD target. A
// row is widened to float32, or kept as pairs of bf16. Tests: flash_attention_test.cc.
#include <cstdint>
#include <cstring>

#include "mneme/core/half.h"
#include "mneme/kernels/flash_plan.h"

#if defined(MNEME_KERNELS_FLASH_PACK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_KERNELS_FLASH_PACK_INL_H_
#undef MNEME_KERNELS_FLASH_PACK_INL_H_
#else
#define MNEME_KERNELS_FLASH_PACK_INL_H_
#endif

#include "mneme/kernels/flash_product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {

// Rounds to nearest even; NaN stays NaN. The 16 bits are in the low half of each lane.
HWY_INLINE hn::Vec<hn::RebindToUnsigned<Floats>> bf16_bits(FloatVector x) {
  const hn::RebindToUnsigned<Floats> du;
  const auto bits = hn::BitCast(du, x);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7fff))));
  const auto quiet = hn::Or(hn::ShiftRight<16>(bits), hn::Set(du, 0x40));
  return hn::IfThenElse(hn::RebindMask(du, hn::Ne(x, x)), quiet, rounded);
}

// Elements of tensors: how they are widened and rounded, one and a vector at a time.
struct F32 {
  using Stored = float;
  static float widen(float x) { return x; }
  static float round(float x) { return x; }
  static HWY_INLINE FloatVector load(const float* from) { return hn::LoadU(Floats(), from); }
  static HWY_INLINE void store(FloatVector x, float* to) { hn::StoreU(x, Floats(), to); }
};

struct BF16 {
  using Stored = uint16_t;
  static float widen(uint16_t x) { return bf16_to_float(x); }
  static uint16_t round(float x) { return float_to_bf16(x); }
  static HWY_INLINE FloatVector load(const uint16_t* from) {
    const hn::Rebind<uint16_t, Floats> dh;
    const hn::RebindToUnsigned<Floats> du;
    return hn::BitCast(Floats(), hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(dh, from))));
  }
  static HWY_INLINE void store(FloatVector x, uint16_t* to) {
    const hn::Rebind<uint16_t, Floats> dh;
    const hn::RebindToSigned<Floats> di;
    hn::StoreU(hn::DemoteTo(dh, hn::BitCast(di, bf16_bits(x))), dh, to);
  }
};

struct F16 {
  using Stored = uint16_t;
  static float widen(uint16_t x) { return f16_to_float(x); }
  static uint16_t round(float x) { return float_to_f16(x); }
  static HWY_INLINE FloatVector load(const uint16_t* from) {
    const hn::Rebind<hwy::float16_t, Floats> dh;
    return hn::PromoteTo(Floats(), hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(from)));
  }
  static HWY_INLINE void store(FloatVector x, uint16_t* to) {
#if HWY_TARGET <= HWY_AVX2  // the hardware's conversion; the emulated one rounds otherwise
    const hn::Rebind<hwy::float16_t, Floats> dh;
    hn::StoreU(hn::DemoteTo(dh, x), dh, reinterpret_cast<hwy::float16_t*>(to));
#else
    alignas(64) float lanes[kLanes];
    hn::Store(x, Floats(), lanes);
    for (int64_t i = 0; i < kLanes; ++i) to[i] = float_to_f16(lanes[i]);
#endif
  }
};

// Words of a row of `dim` elements.
template <WordKind kKind>
constexpr int64_t words_of(int64_t dim) {
  return kKind == WordKind::kBF16Pair ? (dim + 1) / 2 : dim;
}

// One row, followed by zeros up to `padded` words.
template <class T, WordKind kKind>
HWY_INLINE void load_row(const typename T::Stored* from, int64_t dim, int64_t padded, float* to) {
  if constexpr (kKind == WordKind::kBF16Pair) {
    const hn::Repartition<uint16_t, Floats> d16;
    auto* halves = reinterpret_cast<uint16_t*>(to);
    int64_t i = 0;
    for (; i + 2 * kLanes <= dim; i += 2 * kLanes) {
      hn::StoreU(hn::LoadU(d16, from + i), d16, halves + i);
    }
    std::memcpy(halves + i, from + i, static_cast<size_t>(dim - i) * 2);
    std::memset(halves + dim, 0, static_cast<size_t>(2 * padded - dim) * 2);
  } else {
    int64_t i = 0;
    for (; i + kLanes <= dim; i += kLanes) hn::StoreU(T::load(from + i), Floats(), to + i);
    for (; i < dim; ++i) to[i] = T::widen(from[i]);
    for (; i < padded; ++i) to[i] = 0;
  }
}

// One row of float32 values times `factor` into a tensor.
template <class T>
HWY_INLINE void store_row(const float* from, int64_t dim, float factor, typename T::Stored* to) {
  const FloatVector f = hn::Set(Floats(), factor);
  int64_t i = 0;
  for (; i + kLanes <= dim; i += kLanes) {
    T::store(hn::Mul(hn::LoadU(Floats(), from + i), f), to + i);
  }
  for (; i < dim; ++i) to[i] = T::round(from[i] * factor);
}

// Rows 2i and 2i + 1 of bf16 as one row of pairs, followed by zeros up to `padded` words; `second`
// may be null for a row of zeros.
HWY_INLINE void pair_rows(const uint16_t* first, const uint16_t* second, int64_t dim,
                          int64_t padded, float* to) {
  const hn::Rebind<uint16_t, Floats> dh;
  const hn::RebindToUnsigned<Floats> du;
  auto* words = reinterpret_cast<uint32_t*>(to);
  int64_t i = 0;
  for (; i + kLanes <= dim; i += kLanes) {
    auto pair = hn::PromoteTo(du, hn::LoadU(dh, first + i));
    if (second != nullptr) {
      pair = hn::Or(pair, hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(dh, second + i))));
    }
    hn::StoreU(pair, du, words + i);
  }
  for (; i < dim; ++i) {
    const uint32_t word = first[i] | (second == nullptr ? 0 : uint32_t{second[i]} << 16);
    std::memcpy(to + i, &word, 4);
  }
  for (; i < padded; ++i) to[i] = 0;
}

// Float32 rows 2j and 2j + 1 of weights [keys, kFlashRows] to row j of pairs of bf16, in place; an
// odd last row is paired with zeros.
HWY_INLINE void pair_weights(float* weights, int64_t keys, int64_t width) {
  const Floats d;
  const hn::RebindToUnsigned<Floats> du;
  for (int64_t j = 0; j < keys; j += 2) {
    const float* from = weights + j * kFlashRows;
    auto* to = reinterpret_cast<uint32_t*>(weights + j / 2 * kFlashRows);
    for (int64_t v = 0; v < width; v += kLanes) {
      const FloatVector first = hn::LoadU(d, from + v);
      const FloatVector second = j + 1 < keys ? hn::LoadU(d, from + kFlashRows + v) : hn::Zero(d);
      hn::StoreU(hn::Or(bf16_bits(first), hn::ShiftLeft<16>(bf16_bits(second))), du, to + v);
    }
  }
}

// Float32 rows of weights [keys, kFlashRows] as rows of bf16, two to a word.
HWY_INLINE void narrow_rows(const float* weights, int64_t keys, int64_t width, float* to) {
  for (int64_t j = 0; j < keys; ++j) {
    auto* row = reinterpret_cast<uint16_t*>(to + j * kFlashRows);
    for (int64_t v = 0; v < width; v += kLanes) {
      BF16::store(hn::LoadU(Floats(), weights + j * kFlashRows + v), row + v);
    }
  }
}

#if HWY_TARGET != HWY_SCALAR
// Blocks of 4 words from kBlocks rows that are `step` words apart, one behind the other.
template <int64_t kBlocks>
HWY_INLINE auto load_blocks(const float* from, int64_t step) {
  const HWY_CAPPED(float, 4 * kBlocks) d;
  if constexpr (kBlocks == 1) {
    return hn::LoadU(d, from);
  } else {
    const auto low = load_blocks<kBlocks / 2>(from, step);
    return hn::Combine(d, load_blocks<kBlocks / 2>(from + kBlocks / 2 * step, step), low);
  }
}
#endif

// to [columns, to_stride] = from [rows, from_stride] transposed, in words. Rows are rounded up to
// whole vectors and columns to multiples of 4, so the memory around must be there.
HWY_INLINE void transpose_words(const float* HWY_RESTRICT from, int64_t from_stride, int64_t rows,
                                int64_t columns, float* HWY_RESTRICT to, int64_t to_stride) {
#if HWY_TARGET != HWY_SCALAR
  const Floats d;
  const hn::Repartition<uint64_t, Floats> d64;
  for (int64_t r = 0; r < rows; r += kLanes) {
    for (int64_t w = 0; w < columns; w += 4) {
      // Each block of 4 lanes holds 4 words of one row; rows 4 apart share a vector, so that 4 by 4
      // transposes in the blocks leave a column of rows in order.
      const float* in = from + r * from_stride + w;
      const auto a = load_blocks<kLanes / 4>(in, 4 * from_stride);
      const auto b = load_blocks<kLanes / 4>(in + from_stride, 4 * from_stride);
      const auto c = load_blocks<kLanes / 4>(in + 2 * from_stride, 4 * from_stride);
      const auto e = load_blocks<kLanes / 4>(in + 3 * from_stride, 4 * from_stride);
      const auto ab0 = hn::BitCast(d64, hn::InterleaveLower(d, a, b));
      const auto ab2 = hn::BitCast(d64, hn::InterleaveUpper(d, a, b));
      const auto ce0 = hn::BitCast(d64, hn::InterleaveLower(d, c, e));
      const auto ce2 = hn::BitCast(d64, hn::InterleaveUpper(d, c, e));
      float* out = to + w * to_stride + r;
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, ab0, ce0)), d, out);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, ab0, ce0)), d, out + to_stride);
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, ab2, ce2)), d, out + 2 * to_stride);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, ab2, ce2)), d, out + 3 * to_stride);
    }
  }
#else
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t w = 0; w < columns; ++w) to[w * to_stride + r] = from[r * from_stride + w];
  }
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();
#endif
