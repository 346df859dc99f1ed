// Products with stored codes in whole numbers, per SIMD target: sums of factor * code are exact, so
// they have one value in whatever order and company they are made, and codes are never expanded to
// floats. Tests: paged_attention_test.cc.
#if defined(MNEME_KERNELS_ATTENTION_CODES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_KERNELS_ATTENTION_CODES_INL_H_
#undef MNEME_KERNELS_ATTENTION_CODES_INL_H_
#else
#define MNEME_KERNELS_ATTENTION_CODES_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>

#include "mneme/kernels/attention_factors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Codes of a page's keys or values: [lines, columns, 4] bytes, where the four codes of a word are
// multiplied together. A line of 4-bit codes holds two quads of every column.
template <int kBits>
struct CodeLines {
  static constexpr int kQuads = 8 / kBits;
  const std::byte* data;
  int64_t columns;
  int64_t ahead;  // the same line this many bytes further is fetched
  HWY_INLINE const int32_t* at(int64_t line, int64_t column) const {
    return reinterpret_cast<const int32_t*>(data + 4 * (line * columns + column));
  }
  template <int kQuad>
  HWY_INLINE IntVector read(int64_t line, int64_t column) const {
    const Ints d;
    const IntVector words = hn::LoadU(d, at(line, column));
    if constexpr (kBits == 8) return words;
    return hn::And(hn::ShiftRight<4 * kQuad>(words), hn::Set(d, 0x0f0f0f0f));
  }
};

// Keys are multiplied as they are stored, values less the centre of their codes (8, 128): the
// instructions take one signed operand and one without a sign.
enum class CodeUse { kKeys, kValues };

template <class Bytes, class V, class C>
HWY_INLINE V less_centre(const Bytes& d, V codes, C centre) {
  return hn::BitCast(hn::DFromV<V>(), hn::Sub(hn::BitCast(d, codes), hn::Set(d, centre)));
}

#if HWY_TARGET == HWY_AVX3_DL

// sum + the four products of every lane's bytes. Written out because Highway compiles this target
// without the VNNI flag that it makes sure of at run time.
HWY_INLINE IntVector add_byte_products(IntVector sum, IntVector any_sign_less,
                                       IntVector with_sign) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum.raw) : "v"(any_sign_less.raw), "v"(with_sign.raw));
  return sum;
}

template <CodeUse kUse, int kRows, int kVectors>
struct CodeSums {
  IntVector high[kRows][kVectors], low[kRows][kVectors];

  template <int kQuad, int kBits>
  HWY_INLINE void add(const int32_t* HWY_RESTRICT words, int64_t stride, int64_t count,
                      const CodeLines<kBits>& lines, int64_t line, int64_t column) {
    const Ints d;
    const hn::Repartition<int8_t, Ints> bytes;
    IntVector codes[kVectors];
    MNEME_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      codes[v] = lines.template read<kQuad>(line, column + v * kLanes);
      if constexpr (kUse == CodeUse::kValues) {
        codes[v] = less_centre(bytes, codes[v], static_cast<int8_t>(kBits == 8 ? -128 : 8));
      }
    }
    words += line * CodeLines<kBits>::kQuads + kQuad;
    MNEME_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const IntVector upper = hn::Set(d, words[r * stride]);
      const IntVector lower = hn::Set(d, words[r * stride + count / 4]);
      MNEME_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        if constexpr (kUse == CodeUse::kKeys) {
          high[r][v] = add_byte_products(high[r][v], codes[v], upper);
          low[r][v] = add_byte_products(low[r][v], codes[v], lower);
        } else {
          high[r][v] = add_byte_products(high[r][v], upper, codes[v]);
          low[r][v] = add_byte_products(low[r][v], lower, codes[v]);
        }
      }
    }
  }

  HWY_INLINE void start(int r, IntVector sum) {
    MNEME_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      high[r][v] = hn::Zero(Ints());
      low[r][v] = sum;
    }
  }
  HWY_INLINE IntVector total(int r, int v) const {
    return hn::Add(hn::ShiftLeft<8>(high[r][v]), low[r][v]);
  }
};

#else

// The two products of every lane's 16-bit halves.
HWY_INLINE IntVector pair_products(IntVector a, IntVector b) {
#if HWY_TARGET == HWY_AVX3
  return IntVector{_mm512_madd_epi16(a.raw, b.raw)};
#elif HWY_TARGET == HWY_AVX2
  return IntVector{_mm256_madd_epi16(a.raw, b.raw)};
#elif HWY_TARGET == HWY_SSE4
  return IntVector{_mm_madd_epi16(a.raw, b.raw)};
#else
  const auto lower = [](IntVector x) HWY_ATTR { return hn::ShiftRight<16>(hn::ShiftLeft<16>(x)); };
  return hn::Add(hn::Mul(lower(a), lower(b)),
                 hn::Mul(hn::ShiftRight<16>(a), hn::ShiftRight<16>(b)));
#endif
}

template <CodeUse kUse, int kRows, int kVectors>
struct CodeSums {
  IntVector sums[kRows][kVectors];

  template <int kQuad, int kBits>
  HWY_INLINE void add(const int32_t* HWY_RESTRICT words, int64_t stride, int64_t,
                      const CodeLines<kBits>& lines, int64_t line, int64_t column) {
    const Ints d;
    IntVector even[kVectors], odd[kVectors];
    MNEME_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const IntVector codes = lines.template read<kQuad>(line, column + v * kLanes);
      const IntVector bytes = hn::Set(d, 0x00ff00ff);
      even[v] = hn::And(codes, bytes);
      odd[v] = hn::And(hn::ShiftRight<8>(codes), bytes);
      if constexpr (kUse == CodeUse::kValues) {
#if HWY_TARGET == HWY_SCALAR
        even[v] = halves_less_centre<kBits>(even[v]);
        odd[v] = halves_less_centre<kBits>(odd[v]);
#else
        const hn::Repartition<int16_t, Ints> halves;
        even[v] = less_centre(halves, even[v], static_cast<int16_t>(kBits == 8 ? 128 : 8));
        odd[v] = less_centre(halves, odd[v], static_cast<int16_t>(kBits == 8 ? 128 : 8));
#endif
      }
    }
    words += 4 * (line * CodeLines<kBits>::kQuads + kQuad);
    MNEME_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const IntVector first = hn::Set(d, words[r * stride]);
      const IntVector second = hn::Set(d, words[r * stride + 1]);
      MNEME_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        sums[r][v] = hn::Add(sums[r][v],
                             hn::Add(pair_products(even[v], first), pair_products(odd[v], second)));
      }
    }
  }

#if HWY_TARGET == HWY_SCALAR
  // Both 16-bit halves of the one lane.
  template <int kBits>
  static IntVector halves_less_centre(IntVector x) {
    constexpr uint32_t kCentre = kBits == 8 ? 128 : 8;
    const auto both = static_cast<uint32_t>(hn::GetLane(x));
    const uint32_t low = (both - kCentre) & 0xffffu, high = (both >> 16) - kCentre;
    return hn::Set(Ints(), static_cast<int32_t>(low | high << 16));
  }
#endif

  HWY_INLINE void start(int r, IntVector sum) {
    MNEME_UNROLL
    for (int v = 0; v < kVectors; ++v) sums[r][v] = sum;
  }
  HWY_INLINE IntVector total(int r, int v) const { return sums[r][v]; }
};

#endif

// The sums of kVectors vectors of columns from `column` on, over lines [begin, end), for kRows rows
// of factors (`stride` words apart, of `count` elements), begun with emit.start(row) and handed to
// emit(row, column, sums).
template <CodeUse kUse, int kRows, int kVectors, int kBits, class Emit>
HWY_NOINLINE void multiply_codes_tile(const int32_t* HWY_RESTRICT words, int64_t stride,
                                      int64_t count, int64_t begin, int64_t end,
                                      const CodeLines<kBits>& codes, int64_t column,
                                      const Emit& emitter) {
  // Copies, which stores cannot change.
  const CodeLines<kBits> lines = codes;
  const Emit emit = emitter;
  CodeSums<kUse, kRows, kVectors> sums;
  MNEME_UNROLL
  for (int r = 0; r < kRows; ++r) sums.start(r, emit.start(r));
  for (int64_t line = begin; line < end; ++line) {
    MNEME_UNROLL
    for (int v = 0; v < kVectors * kLanes * 4 / 64; ++v) {
      fetch_line(lines.at(line, column + v * 16), lines.ahead);
    }
    sums.template add<0>(words, stride, count, lines, line, column);
    if constexpr (kBits == 4) sums.template add<1>(words, stride, count, lines, line, column);
  }
  MNEME_UNROLL
  for (int r = 0; r < kRows; ++r) {
    MNEME_UNROLL
    for (int v = 0; v < kVectors; ++v) emit(r, column + v * kLanes, sums.total(r, v));
  }
}

// The same over columns [column, stop); their number is a multiple of 32.
template <CodeUse kUse, int kRows, int kBits, class Emit>
HWY_INLINE void multiply_codes(const int32_t* words, int64_t stride, int64_t count, int64_t begin,
                               int64_t end, const CodeLines<kBits>& codes, int64_t column,
                               int64_t stop, const Emit& emit) {
  constexpr int kVectors = kRows <= 3 ? 2 : kBytePlanes ? 2 : 1;
  if constexpr (kBytePlanes && kRows <= 3) {
    for (; column + 4 * kLanes <= stop; column += 4 * kLanes) {
      multiply_codes_tile<kUse, kRows, 4>(words, stride, count, begin, end, codes, column, emit);
    }
  }
  for (; column < stop; column += kVectors * kLanes) {
    multiply_codes_tile<kUse, kRows, kVectors>(words, stride, count, begin, end, codes, column,
                                               emit);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#endif
