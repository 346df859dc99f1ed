// Loops over arrays of any length for the elementwise kernels. The rest that does not fill a vector
// goes through the same code in a padded one, so an element's result does not depend on where in
// the array it stands.
#include <hwy/contrib/math/math-inl.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(MNEME_KERNELS_VECTOR_MAP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_KERNELS_VECTOR_MAP_INL_H_
#undef MNEME_KERNELS_VECTOR_MAP_INL_H_
#else
#define MNEME_KERNELS_VECTOR_MAP_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using VF = hn::Vec<DF>;
inline constexpr int64_t kLanes = HWY_LANES(float);

// e^x, 0 where x is NaN: what hn::Exp gives, but without handing it NaN. Its portable form converts
// x to an integer, which NaN has none of.
HWY_INLINE VF exp_of(VF x) {
  const VF vanishing = hn::Set(DF(), -200.0f);  // e^x is 0 from -104 on
  return hn::Exp(DF(), hn::IfThenElse(hn::Ge(x, vanishing), x, vanishing));
}

// out[i] = body(a[i], b[i]); out may be a or b.
template <typename Body>
HWY_INLINE void map(float* out, const float* a, const float* b, int64_t n, const Body& body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    hn::StoreU(body(hn::LoadU(DF(), a + i), hn::LoadU(DF(), b + i)), DF(), out + i);
  }
  if (i < n) {
    const size_t bytes = static_cast<size_t>(n - i) * sizeof(float);
    alignas(64) float padded_a[kLanes] = {}, padded_b[kLanes] = {};
    memcpy(padded_a, a + i, bytes);
    memcpy(padded_b, b + i, bytes);
    hn::Store(body(hn::Load(DF(), padded_a), hn::Load(DF(), padded_b)), DF(), padded_a);
    memcpy(out + i, padded_a, bytes);
  }
}

struct Identity {
  template <typename V>
  HWY_INLINE V operator()(V v) const {
    return v;
  }
};
struct Square {
  template <typename V>
  HWY_INLINE V operator()(V v) const {
    return hn::Mul(v, v);
  }
};

// The sum of body(x[i]) in float64.
template <typename Body>
HWY_INLINE double sum_float64(const float* HWY_RESTRICT x, int64_t n, const Body& body) {
  using D64 = hn::ScalableTag<double>;
  const hn::Rebind<float, D64> d32;
  constexpr int64_t kStep = HWY_LANES(double);
  auto even = hn::Zero(D64()), odd = hn::Zero(D64());
  int64_t i = 0;
  for (; i + 2 * kStep <= n; i += 2 * kStep) {
    even = hn::Add(even, body(hn::PromoteTo(D64(), hn::LoadU(d32, x + i))));
    odd = hn::Add(odd, body(hn::PromoteTo(D64(), hn::LoadU(d32, x + i + kStep))));
  }
  double sum = hn::GetLane(hn::SumOfLanes(D64(), hn::Add(even, odd)));
  for (; i < n; ++i) {
    sum += hn::GetLane(body(hn::Set(hn::CappedTag<double, 1>(), static_cast<double>(x[i]))));
  }
  return sum;
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();
#endif
