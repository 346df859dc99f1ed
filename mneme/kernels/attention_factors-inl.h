// Queries and softmax weights as 16-bit factors of a step, per SIMD target, in the order in which
// attention_codes-inl.h multiplies codes by them. Where the machine multiplies bytes four at a time
// (AVX-512 VNNI) a factor is two planes of bytes, elsewhere a 16-bit half of a pair. Tests:
// paged_attention_test.cc.
#if defined(MNEME_KERNELS_ATTENTION_FACTORS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_KERNELS_ATTENTION_FACTORS_INL_H_
#undef MNEME_KERNELS_ATTENTION_FACTORS_INL_H_
#else
#define MNEME_KERNELS_ATTENTION_FACTORS_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>

#include "mneme/kernels/attention_product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Ints = hn::RebindToSigned<Floats>;
using IntVector = hn::Vec<Ints>;

#if HWY_TARGET == HWY_AVX3_DL
constexpr bool kBytePlanes = true;
#else
constexpr bool kBytePlanes = false;
#endif

// Factors of queries lie in [-top, top], those of weights in [0, top]. A signed factor is 256 * its
// high byte + its low byte, both signed.
constexpr int32_t kQueryTop = kBytePlanes ? 127 * 256 + 127 : 32767;
constexpr int32_t kWeightTop = kBytePlanes ? 65535 : 32767;
// Steps are made for groups whose largest element is at least this, so that they stay normal.
constexpr float kSmallestTop = 1e-30f;

// Writes factors of elements i... of `count` to words [count]. Byte planes: [2, count / 4], the
// high plane first. Pairs: the first two words of every four hold elements 0 and 2, 1 and 3.
HWY_INLINE void store_factors(IntVector factors, int64_t i, int64_t count, int32_t* words) {
  [[maybe_unused]] const Ints d;
#if HWY_TARGET == HWY_AVX3_DL
  auto* planes = reinterpret_cast<uint8_t*>(words);
  const IntVector high = hn::ShiftRight<8>(hn::Add(factors, hn::Set(d, 128)));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(planes + i), _mm512_cvtepi32_epi8(high.raw));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(planes + count + i),
                   _mm512_cvtepi32_epi8(factors.raw));
#elif HWY_TARGET == HWY_SCALAR
  (void)count;
  const auto factor = static_cast<uint32_t>(hn::GetLane(factors));
  int32_t& word = words[i / 4 * 4 + i % 2];
  const uint32_t before = i % 4 < 2 ? 0 : static_cast<uint32_t>(word) & 0xffffu;
  word = static_cast<int32_t>(i % 4 < 2 ? factor & 0xffffu : before | factor << 16);
#else
  (void)count;
  const IntVector low = hn::And(factors, hn::Set(d, 0xffff));
  hn::StoreU(hn::Or(low, hn::ShiftLeft<16>(hn::Shuffle1032(factors))), d, words + i);
#endif
}

// The largest of x [n] in magnitude.
HWY_INLINE float largest_of(const float* HWY_RESTRICT x, int64_t n) {
  const Floats d;
  FloatVector top = hn::Zero(d);
  for (int64_t i = 0; i < n; i += kLanes) top = hn::Max(top, hn::Abs(hn::LoadU(d, x + i)));
  return hn::GetLane(hn::MaxOfLanes(d, top));
}

// A group of a query: elements [first, first + n) of `count`, x [count]. Returns the step, and the
// sum of the factors in `sum`.
HWY_INLINE float code_query(const float* HWY_RESTRICT x, int64_t first, int64_t n, int64_t count,
                            int32_t* HWY_RESTRICT words, int32_t* sum) {
  const Floats d;
  const float top = std::max(largest_of(x + first, n), kSmallestTop);
  const FloatVector inverse = hn::Set(d, static_cast<float>(kQueryTop) / top);
  IntVector total = hn::Zero(Ints());
  for (int64_t i = first; i < first + n; i += kLanes) {
    const IntVector factors = hn::NearestInt(hn::Mul(hn::LoadU(d, x + i), inverse));
    store_factors(factors, i, count, words);
    total = hn::Add(total, factors);
  }
  *sum = hn::GetLane(hn::SumOfLanes(Ints(), total));
  return top / static_cast<float>(kQueryTop);
}

// Writes the factors scaled * inverse of a page's weights to words [64].
HWY_INLINE void store_weights(const FloatVector (&scaled)[kPageRows / kLanes], float inverse,
                              int32_t* HWY_RESTRICT words) {
  const Floats d;
#if HWY_TARGET == HWY_AVX3_DL
  // Adding 1.5 * 2^23 rounds to nearest even and leaves the whole number in the low bytes of the
  // float: byte 0 of every lane is the low plane, byte 1 the high one.
  const __m512 magic = _mm512_set1_ps(12582912.0f), factor = _mm512_set1_ps(inverse);
  HWY_ALIGN static constexpr uint8_t kBytes[64] = {
      0,  4,  8,  12, 16, 20, 24, 28, 32, 36,  40,  44,  48,  52,  56,  60,
      64, 68, 72, 76, 80, 84, 88, 92, 96, 100, 104, 108, 112, 116, 120, 124,
      1,  5,  9,  13, 17, 21, 25, 29, 33, 37,  41,  45,  49,  53,  57,  61,
      65, 69, 73, 77, 81, 85, 89, 93, 97, 101, 105, 109, 113, 117, 121, 125};
  const __m512i bytes = _mm512_load_si512(kBytes);
  __m512i halves[2];
  for (int v = 0; v < 2; ++v) {
    const __m512 lower = _mm512_fmadd_ps(scaled[2 * v].raw, factor, magic);
    const __m512 upper = _mm512_fmadd_ps(scaled[2 * v + 1].raw, factor, magic);
    halves[v] =
        _mm512_permutex2var_epi8(_mm512_castps_si512(lower), bytes, _mm512_castps_si512(upper));
  }
  _mm512_storeu_si512(words, _mm512_shuffle_i64x2(halves[0], halves[1], 0xee));
  _mm512_storeu_si512(words + 16, _mm512_shuffle_i64x2(halves[0], halves[1], 0x44));
#else
  MNEME_UNROLL
  for (int v = 0; v < kPageRows / kLanes; ++v) {
    store_factors(hn::NearestInt(hn::Mul(scaled[v], hn::Set(d, inverse))), v * kLanes, kPageRows,
                  words);
  }
#endif
}

// Weights p times scales of a page's rows, both [64] and at least 0, to words [64]. Returns the
// step.
HWY_INLINE float code_weights(const float* HWY_RESTRICT p, const float* HWY_RESTRICT scales,
                              int32_t* HWY_RESTRICT words) {
  const Floats d;
  FloatVector scaled[kPageRows / kLanes];
  FloatVector top = hn::Set(d, kSmallestTop);
  MNEME_UNROLL
  for (int v = 0; v < kPageRows / kLanes; ++v) {
    scaled[v] = hn::Mul(hn::LoadU(d, p + v * kLanes), hn::LoadU(d, scales + v * kLanes));
    top = hn::Max(top, scaled[v]);
  }
  const float largest = hn::GetLane(hn::MaxOfLanes(d, top));
  store_weights(scaled, static_cast<float>(kWeightTop) / largest, words);
  return largest * (1.0f / static_cast<float>(kWeightTop));
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#endif
