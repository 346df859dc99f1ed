#include "mneme/kernels/row_convert.h"

#include <algorithm>
#include <bit>

#include "mneme/core/half.h"
#include "mneme/kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "mneme/kernels/row_convert.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = HWY_CAPPED(float, 16);

uint32_t LargestMagnitude(const float* x, int64_t n) {
  const Floats d;
  const hn::RebindToSigned<Floats> di;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  auto magnitude = hn::Zero(di);
  for (; i + lanes <= n; i += lanes) {
    magnitude = hn::Max(magnitude, hn::BitCast(di, hn::Abs(hn::LoadU(d, x + i))));
  }
  auto largest = static_cast<uint32_t>(hn::GetLane(hn::MaxOfLanes(di, magnitude)));
  for (; i < n; ++i) largest = std::max(largest, std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu);
  return largest;
}

void FloatsToF16(const float* x, int64_t n, uint16_t* bits) {
  int64_t i = 0;
#if HWY_TARGET <= HWY_AVX2  // the hardware's conversion; the emulated one rounds otherwise
  const Floats d;
  const hn::Rebind<hwy::float16_t, Floats> dh;
  const hn::Rebind<uint16_t, Floats> du;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (; i + lanes <= n; i += lanes) {
    hn::StoreU(hn::BitCast(du, hn::DemoteTo(dh, hn::LoadU(d, x + i))), du, bits + i);
  }
#endif
  for (; i < n; ++i) bits[i] = float_to_f16(x[i]);
}

void FloatsToBF16(const float* x, int64_t n, uint16_t* bits) {
  for (int64_t i = 0; i < n; ++i) bits[i] = float_to_bf16(x[i]);
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme {

HWY_EXPORT(LargestMagnitude);
HWY_EXPORT(FloatsToF16);
HWY_EXPORT(FloatsToBF16);

uint32_t largest_magnitude(const float* x, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(LargestMagnitude)(x, n);
}

bool storable(DType dtype, const float* x, int64_t n) {
  constexpr uint32_t kInfinity = 0x7f800000u;        // bits of the float
  constexpr uint32_t kTooLargeForF16 = 0x477ff000u;  // the first that rounds to no f16
  return largest_magnitude(x, n) < (dtype == DType::kF16 ? kTooLargeForF16 : kInfinity);
}

void floats_to_f16(const float* x, int64_t n, uint16_t* bits) {
  HWY_DYNAMIC_DISPATCH(FloatsToF16)(x, n, bits);
}

void floats_to_bf16(const float* x, int64_t n, uint16_t* bits) {
  HWY_DYNAMIC_DISPATCH(FloatsToBF16)(x, n, bits);
}

}  // namespace mneme
#endif
