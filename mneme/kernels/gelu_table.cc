#include "mneme/kernels/gelu_table.h"

#include <cmath>
#include <numbers>

#include "mneme/core/error.h"
#include "mneme/kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "mneme/kernels/gelu_table.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "mneme/kernels/vector_map-inl.h"

#ifndef MNEME_KERNELS_GELU_TABLE_ONCE
#define MNEME_KERNELS_GELU_TABLE_ONCE
namespace mneme {

// Entries and their differences, padded to whole vectors of 16.
struct GeluTable {
  static constexpr int64_t kPadded = 192;
  alignas(64) float values[kPadded] = {};
  alignas(64) float slopes[kPadded] = {};

  GeluTable() {
    for (int64_t i = 0; i < kGeluTableEntries; ++i) {
      const double a = static_cast<double>(i) / 32;
      const double d = a / 2 * std::erfc(a / std::numbers::sqrt2);
      values[i] = static_cast<float>(std::round(d * 0x1p22) * 0x1p-22);
    }
    for (int64_t i = 0; i + 1 < kGeluTableEntries; ++i) slopes[i] = values[i + 1] - values[i];
  }
};

}  // namespace mneme
#endif

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {

using DI = hn::RebindToSigned<DF>;
using VI = hn::Vec<DI>;

#if HWY_TARGET <= HWY_AVX3
// Gathers cost this machine family a load an element; six permutations of two registers and the
// selections between them cost less.
HWY_INLINE VF look_up(const float* HWY_RESTRICT table, VI index) {
  const __m512i i = index.raw;
  const auto pair = [&](int at) HWY_ATTR {
    return _mm512_permutex2var_ps(_mm512_load_ps(table + at), i, _mm512_load_ps(table + at + 16));
  };
  const __mmask16 bit5 = _mm512_test_epi32_mask(i, _mm512_set1_epi32(32));
  const __mmask16 bit6 = _mm512_test_epi32_mask(i, _mm512_set1_epi32(64));
  const __mmask16 bit7 = _mm512_test_epi32_mask(i, _mm512_set1_epi32(128));
  const __m512 low = _mm512_mask_blend_ps(bit5, pair(0), pair(32));
  const __m512 middle = _mm512_mask_blend_ps(bit5, pair(64), pair(96));
  const __m512 high = _mm512_mask_blend_ps(bit5, pair(128), pair(160));
  return VF{_mm512_mask_blend_ps(bit7, _mm512_mask_blend_ps(bit6, low, middle), high)};
}
#else
HWY_INLINE VF look_up(const float* HWY_RESTRICT table, VI index) {
  return hn::GatherIndex(DF(), table, index);
}
#endif

HWY_INLINE VF gelu(const GeluTable& table, VF x) {
  const VF zero = hn::Zero(DF()), end = hn::Set(DF(), 5.5f);
  const VF magnitude = hn::Abs(x);
  // NaN compares false and reads the last entry, which is 0.
  const VF inside = hn::IfThenElse(hn::Lt(magnitude, end), magnitude, end);
  const VF at = hn::Mul(inside, hn::Set(DF(), 32.0f));
  const VI index = hn::ConvertTo(DI(), at);
  const VF fraction = hn::Sub(at, hn::ConvertTo(DF(), index));
  const VF d = hn::MulAdd(fraction, look_up(table.slopes, index), look_up(table.values, index));
  return hn::Sub(hn::IfThenZeroElse(hn::Lt(x, zero), x), d);
}

void GeluTableMap(const GeluTable& table, const float* x, int64_t n, float* y) {
  map(y, x, x, n, [&table](VF v, VF) HWY_ATTR { return gelu(table, v); });
}

void GeluTableMul(const GeluTable& table, float* gate, const float* up, int64_t n) {
  map(gate, gate, up, n, [&table](VF v, VF u) HWY_ATTR { return hn::Mul(gelu(table, v), u); });
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme {

HWY_EXPORT(GeluTableMap);
HWY_EXPORT(GeluTableMul);

namespace {

const GeluTable& gelu_values() {
  static const GeluTable table;
  return table;
}

}  // namespace

std::span<const float, kGeluTableEntries> gelu_table_entries() {
  return std::span<const float, kGeluTableEntries>(gelu_values().values, kGeluTableEntries);
}

void gelu_table(const float* x, int64_t n, float* y) {
  MNEME_CHECK(n >= 0, "gelu_table: n must not be negative, got ", n);
  HWY_DYNAMIC_DISPATCH(GeluTableMap)(gelu_values(), x, n, y);
}

void gelu_table_mul(float* gate, const float* up, int64_t n) {
  MNEME_CHECK(n >= 0, "gelu_table_mul: n must not be negative, got ", n);
  HWY_DYNAMIC_DISPATCH(GeluTableMul)(gelu_values(), gate, up, n);
}

}  // namespace mneme
#endif
