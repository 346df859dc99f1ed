#include <cmath>

#include "mneme/core/error.h"
#include "mneme/kernels/elementwise.h"
#include "mneme/kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "mneme/kernels/softmax.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "mneme/kernels/vector_map-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {

float Maximum(const float* HWY_RESTRICT x, int64_t n) {
  int64_t i = 0;
  VF best = hn::Set(DF(), x[0]);
  for (; i + kLanes <= n; i += kLanes) best = hn::Max(best, hn::LoadU(DF(), x + i));
  float maximum = hn::GetLane(hn::MaxOfLanes(DF(), best));
  for (; i < n; ++i) maximum = std::max(maximum, x[i]);
  return maximum;
}

// out = exp(x - maximum); returns the sum of out.
HWY_INLINE double exp_and_sum(const float* x, float maximum, int64_t n, float* out) {
  const VF maxima = hn::Set(DF(), maximum);
  map(out, x, x, n, [maxima](VF v, VF) HWY_ATTR { return exp_of(hn::Sub(v, maxima)); });
  return sum_float64(out, n, Identity());
}

void Softmax(float* x, int64_t n) {
  const double sum = exp_and_sum(x, Maximum(x, n), n, x);
  const VF factor = hn::Set(DF(), static_cast<float>(1 / sum));
  map(x, x, x, n, [factor](VF v, VF) HWY_ATTR { return hn::Mul(v, factor); });
}

double LogSumExp(const float* x, int64_t n) {
  const float maximum = Maximum(x, n);
  if (std::isinf(maximum)) return static_cast<double>(maximum);
  constexpr int64_t kPart = 1024;
  alignas(64) float part[kPart];
  double sum = 0;
  for (int64_t i = 0; i < n; i += kPart) {
    sum += exp_and_sum(x + i, maximum, std::min(kPart, n - i), part);
  }
  return static_cast<double>(maximum) + std::log(sum);
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme {

HWY_EXPORT(Softmax);
HWY_EXPORT(LogSumExp);

void softmax(float* x, int64_t n) {
  MNEME_CHECK(n > 0, "softmax: n must be positive, got ", n);
  HWY_DYNAMIC_DISPATCH(Softmax)(x, n);
}

double log_sum_exp(const float* x, int64_t n) {
  MNEME_CHECK(n > 0, "log_sum_exp: n must be positive, got ", n);
  return HWY_DYNAMIC_DISPATCH(LogSumExp)(x, n);
}

}  // namespace mneme
#endif
