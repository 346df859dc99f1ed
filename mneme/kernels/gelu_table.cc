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

// Values and slopes of a whole block of vectors at once.
inline constexpr int kBlock = 4;

#if HWY_TARGET <= HWY_AVX3
// A gather costs this machine family a load an element. Six permutations of two registers each, and
// the selections between them, cost less; a block shares the loads of the tables.
template <int kVectors>
HWY_INLINE void look_up(const GeluTable& table, const VI* HWY_RESTRICT index,
                        VF* HWY_RESTRICT values, VF* HWY_RESTRICT slopes) {
  HWY_UNROLL(6)
  for (int first = 0; first < GeluTable::kPadded; first += 32) {
    const __m512 value0 = _mm512_load_ps(table.values + first);
    const __m512 value1 = _mm512_load_ps(table.values + first + 16);
    const __m512 slope0 = _mm512_load_ps(table.slopes + first);
    const __m512 slope1 = _mm512_load_ps(table.slopes + first + 16);
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) {
      const __m512i i = index[v].raw;
      const __mmask16 reached = _mm512_cmpge_epi32_mask(i, _mm512_set1_epi32(first));
      const __m512 value = _mm512_permutex2var_ps(value0, i, value1);
      const __m512 slope = _mm512_permutex2var_ps(slope0, i, slope1);
      values[v].raw = first == 0 ? value : _mm512_mask_mov_ps(values[v].raw, reached, value);
      slopes[v].raw = first == 0 ? slope : _mm512_mask_mov_ps(slopes[v].raw, reached, slope);
    }
  }
}
// Both keep a NaN: these instructions return their second operand where either is one.
HWY_INLINE VF inside_table(VF magnitude, VF end) {
  return VF{_mm512_min_ps(magnitude.raw, end.raw)};
}
HWY_INLINE VF relu(VF x) { return VF{_mm512_max_ps(_mm512_setzero_ps(), x.raw)}; }
#else
template <int kVectors>
HWY_INLINE void look_up(const GeluTable& table, const VI* HWY_RESTRICT index,
                        VF* HWY_RESTRICT values, VF* HWY_RESTRICT slopes) {
  for (int v = 0; v < kVectors; ++v) {
    values[v] = hn::GatherIndex(DF(), table.values, index[v]);
    slopes[v] = hn::GatherIndex(DF(), table.slopes, index[v]);
  }
}
// NaN compares false.
HWY_INLINE VF inside_table(VF magnitude, VF end) {
  return hn::IfThenElse(hn::Lt(magnitude, end), magnitude, end);
}
HWY_INLINE VF relu(VF x) { return hn::IfThenZeroElse(hn::Lt(x, hn::Zero(DF())), x); }
#endif

// x [kVectors] in place. NaN reads the last entry, which is 0.
template <int kVectors>
HWY_INLINE void gelu(const GeluTable& table, VF* HWY_RESTRICT x) {
  VF fraction[kVectors], values[kVectors], slopes[kVectors];
  VI index[kVectors];
  HWY_UNROLL(4)
  for (int v = 0; v < kVectors; ++v) {
    const VF at = hn::Mul(inside_table(hn::Abs(x[v]), hn::Set(DF(), 5.5f)), hn::Set(DF(), 32.0f));
    index[v] = hn::ConvertTo(DI(), at);
    fraction[v] = hn::Sub(at, hn::ConvertTo(DF(), index[v]));
  }
  look_up<kVectors>(table, index, values, slopes);
  HWY_UNROLL(4)
  for (int v = 0; v < kVectors; ++v) {
    x[v] = hn::Sub(relu(x[v]), hn::MulAdd(fraction[v], slopes[v], values[v]));
  }
}

// out = finish(gelu(x), other) in blocks, the rest a vector at a time.
template <class Finish>
HWY_INLINE void gelu_map(const GeluTable& table, const float* x, const float* other, int64_t n,
                         float* out, const Finish& finish) {
  constexpr int64_t kStep = kBlock * kLanes;
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    VF block[kBlock];
    HWY_UNROLL(4)
    for (int v = 0; v < kBlock; ++v) block[v] = hn::LoadU(DF(), x + i + v * kLanes);
    gelu<kBlock>(table, block);
    HWY_UNROLL(4)
    for (int v = 0; v < kBlock; ++v) {
      const VF second = hn::LoadU(DF(), other + i + v * kLanes);
      hn::StoreU(finish(block[v], second), DF(), out + i + v * kLanes);
    }
  }
  map(out + i, x + i, other + i, n - i, [&](VF a, VF b) HWY_ATTR {
    gelu<1>(table, &a);
    return finish(a, b);
  });
}

void GeluTableMap(const GeluTable& table, const float* x, int64_t n, float* y) {
  gelu_map(table, x, x, n, y, [](VF value, VF) HWY_ATTR { return value; });
}

void GeluTableMul(const GeluTable& table, float* gate, const float* up, int64_t n) {
  gelu_map(table, gate, up, n, gate, [](VF value, VF u) HWY_ATTR { return hn::Mul(value, u); });
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
