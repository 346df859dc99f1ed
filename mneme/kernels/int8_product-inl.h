// The tiles of int8_product.cc for one SIMD target: a few rows times a few panels of 16 outputs,
// one accumulator lane an output. Include only after hwy/highway.h, as -inl files are.
#include <cstdint>

#include "mneme/kernels/packed_int8.h"

#if defined(MNEME_KERNELS_INT8_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_KERNELS_INT8_PRODUCT_INL_H_
#undef MNEME_KERNELS_INT8_PRODUCT_INL_H_
#else
#define MNEME_KERNELS_INT8_PRODUCT_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using DI = hn::RebindToSigned<DF>;
using VF = hn::Vec<DF>;
using VI = hn::Vec<DI>;
inline constexpr int64_t kLanes = HWY_LANES(float);
inline constexpr int64_t kPanel = PackedInt8::kPanel, kGroup = PackedInt8::kGroup;
static_assert(kPanel % kLanes == 0);
// Vectors of a panel.
inline constexpr int64_t kParts = kPanel / kLanes;
// AVX-512 has 32 registers, the others 16.
inline constexpr bool kManyRegisters = kLanes >= 16;

#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
// The codes of a vector of groups as two vectors of 16-bit numbers: inputs 0 and 2, 1 and 3.
class Group {
 public:
  explicit HWY_INLINE Group(VI bytes)
      : even_(hn::ShiftRight<8>(hn::ShiftLeft<8>(hn::BitCast(D16(), bytes)))),
        odd_(hn::ShiftRight<8>(hn::BitCast(D16(), bytes))) {}
  static HWY_INLINE VI multiply_add(const Group& w, const Group& a, VI acc) {
    VI unused = hn::Zero(DI());  // on x86 pairs are added in place
    acc = hn::ReorderWidenMulAccumulate(DI(), w.even_, a.even_, acc, unused);
    return hn::ReorderWidenMulAccumulate(DI(), w.odd_, a.odd_, acc, unused);
  }

 private:
  using D16 = hn::Repartition<int16_t, DI>;
  hn::Vec<D16> even_, odd_;
};
#else
class Group {
 public:
  explicit HWY_INLINE Group(VI bytes) : bytes_(bytes) {}
  static HWY_INLINE VI multiply_add(const Group& w, const Group& a, VI acc) {
    acc = hn::Add(acc, hn::Mul(w.input<0>(), a.input<0>()));
    acc = hn::Add(acc, hn::Mul(w.input<1>(), a.input<1>()));
    acc = hn::Add(acc, hn::Mul(w.input<2>(), a.input<2>()));
    return hn::Add(acc, hn::Mul(w.input<3>(), a.input<3>()));
  }

 private:
  template <int kInput>
  HWY_INLINE VI input() const {
    return hn::ShiftRight<24>(hn::ShiftLeft<24 - 8 * kInput>(bytes_));
  }
  VI bytes_;
};
#endif

HWY_INLINE VI load_codes(const int8_t* HWY_RESTRICT from) {
  return hn::Load(DI(), reinterpret_cast<const int32_t*>(from));
}

// c [kRows, kPanels * 16] from biased codes a and the groups of neighbouring panels.
template <int64_t kRows, int64_t kPanels>
HWY_INLINE void product_tile(const uint8_t* HWY_RESTRICT a, int64_t a_stride,
                             const int8_t* HWY_RESTRICT w, int64_t group_stride, int64_t groups,
                             int32_t* HWY_RESTRICT c, int64_t c_stride) {
  constexpr int64_t kVectors = kPanels * kParts;
  VI acc[kRows * kVectors];
  HWY_UNROLL(64)
  for (int64_t i = 0; i < kRows * kVectors; ++i) acc[i] = hn::Zero(DI());
  for (int64_t g = 0; g < groups; ++g) {
    HWY_UNROLL(16)
    for (int64_t v = 0; v < kVectors; ++v) {
      const Group weights(load_codes(w + g * group_stride + v * kLanes * kGroup));
      HWY_UNROLL(8)
      for (int64_t m = 0; m < kRows; ++m) {
        uint32_t codes;
        memcpy(&codes, a + m * a_stride + g * kGroup, sizeof codes);
        const Group activations(hn::Set(DI(), static_cast<int32_t>(codes ^ 0x80808080u)));
        acc[m * kVectors + v] = Group::multiply_add(weights, activations, acc[m * kVectors + v]);
      }
    }
  }
  HWY_UNROLL(8)
  for (int64_t m = 0; m < kRows; ++m) {
    HWY_UNROLL(16)
    for (int64_t v = 0; v < kVectors; ++v) {
      hn::StoreU(acc[m * kVectors + v], DI(), c + m * c_stride + v * kLanes);
    }
  }
}

// y [kRows, kPanels * 16] = x columns^T, columns [count, width].
template <int64_t kRows, int64_t kPanels>
HWY_INLINE void float_tile(const float* HWY_RESTRICT x, int64_t x_stride,
                           const float* HWY_RESTRICT columns, int64_t count, int64_t width,
                           float* HWY_RESTRICT y, int64_t y_stride) {
  constexpr int64_t kVectors = kPanels * kParts;
  VF acc[kRows * kVectors];
  HWY_UNROLL(64)
  for (int64_t i = 0; i < kRows * kVectors; ++i) acc[i] = hn::Zero(DF());
  for (int64_t k = 0; k < count; ++k) {
    VF w[kVectors];
    HWY_UNROLL(16)
    for (int64_t v = 0; v < kVectors; ++v) w[v] = hn::LoadU(DF(), columns + k * width + v * kLanes);
    HWY_UNROLL(12)
    for (int64_t m = 0; m < kRows; ++m) {
      const VF value = hn::Set(DF(), x[m * x_stride + k]);
      HWY_UNROLL(16)
      for (int64_t v = 0; v < kVectors; ++v) {
        acc[m * kVectors + v] = hn::MulAdd(w[v], value, acc[m * kVectors + v]);
      }
    }
  }
  HWY_UNROLL(12)
  for (int64_t m = 0; m < kRows; ++m) {
    HWY_UNROLL(16)
    for (int64_t v = 0; v < kVectors; ++v) {
      hn::StoreU(acc[m * kVectors + v], DF(), y + m * y_stride + v * kLanes);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();
#endif
