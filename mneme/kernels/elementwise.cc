#include "mneme/kernels/elementwise.h"

#include <cmath>

#include "mneme/core/error.h"
#include "mneme/kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "mneme/kernels/elementwise.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "mneme/kernels/vector_map-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {

void RmsNorm(const float* x, const float* weight, float epsilon, int64_t rows, int64_t dim,
             float* y) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* HWY_RESTRICT in = x + r * dim;
    const double mean = sum_float64(in, dim, Square()) / static_cast<double>(dim);
    const auto factor = static_cast<float>(1.0 / std::sqrt(mean + static_cast<double>(epsilon)));
    const VF factors = hn::Set(DF(), factor);
    map(y + r * dim, in, weight, dim,
        [factors](VF value, VF w) HWY_ATTR { return hn::Mul(hn::Mul(value, factors), w); });
  }
}

void Add(float* x, const float* y, int64_t n) {
  map(x, x, y, n, [](VF a, VF b) HWY_ATTR { return hn::Add(a, b); });
}

void Scale(float* x, float factor, int64_t n) {
  const VF factors = hn::Set(DF(), factor);
  map(x, x, x, n, [factors](VF a, VF) HWY_ATTR { return hn::Mul(a, factors); });
}

// x / (1 + exp(-steepness)): silu for steepness = x, and gelu's 0.5 x (1 + tanh(u)) for 2 u. Beyond
// 88 the exponential would overflow; there the quotient is below 1e-34 already.
HWY_INLINE VF gated(VF x, VF steepness) {
  const VF one = hn::Set(DF(), 1.0f);
  const VF exponent = hn::Min(hn::Neg(steepness), hn::Set(DF(), 88.0f));
  return hn::Div(x, hn::Add(one, exp_of(exponent)));
}

void SiluMul(float* gate, const float* up, int64_t n) {
  map(gate, gate, up, n, [](VF x, VF u) HWY_ATTR { return hn::Mul(gated(x, x), u); });
}

void GeluTanhMul(float* gate, const float* up, int64_t n) {
  map(gate, gate, up, n, [](VF x, VF u) HWY_ATTR {
    const VF linear = hn::Set(DF(), 1.5957691216057308f);  // 2 sqrt(2 / pi)
    const VF cubic = hn::Set(DF(), 0.07135481282553512f);  // 0.044715 of it
    const VF steepness = hn::Mul(x, hn::MulAdd(cubic, hn::Mul(x, x), linear));
    return hn::Mul(gated(x, steepness), u);
  });
}

void Softcap(float* x, float cap, int64_t n) {
  const VF caps = hn::Set(DF(), cap);
  map(x, x, x, n,
      [caps](VF a, VF) HWY_ATTR { return hn::Mul(caps, hn::Tanh(DF(), hn::Div(a, caps))); });
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme {

HWY_EXPORT(RmsNorm);
HWY_EXPORT(Add);
HWY_EXPORT(Scale);
HWY_EXPORT(SiluMul);
HWY_EXPORT(GeluTanhMul);
HWY_EXPORT(Softcap);

namespace {

void check_count(const char* caller, int64_t n) {
  MNEME_CHECK(n >= 0, caller, ": n must not be negative, got ", n);
}

}  // namespace

void rms_norm(const float* x, const float* weight, float epsilon, int64_t rows, int64_t dim,
              float* y) {
  MNEME_CHECK(rows >= 0 && dim > 0, "rms_norm: expected rows >= 0 and dim > 0, got ", rows, " x ",
              dim);
  MNEME_CHECK(epsilon >= 0, "rms_norm: epsilon must not be negative, got ", epsilon);
  HWY_DYNAMIC_DISPATCH(RmsNorm)(x, weight, epsilon, rows, dim, y);
}

void add(float* x, const float* y, int64_t n) {
  check_count("add", n);
  HWY_DYNAMIC_DISPATCH(Add)(x, y, n);
}

void scale(float* x, float factor, int64_t n) {
  check_count("scale", n);
  HWY_DYNAMIC_DISPATCH(Scale)(x, factor, n);
}

void silu_mul(float* gate, const float* up, int64_t n) {
  check_count("silu_mul", n);
  HWY_DYNAMIC_DISPATCH(SiluMul)(gate, up, n);
}

void gelu_tanh_mul(float* gate, const float* up, int64_t n) {
  check_count("gelu_tanh_mul", n);
  HWY_DYNAMIC_DISPATCH(GeluTanhMul)(gate, up, n);
}

void softcap(float* x, float cap, int64_t n) {
  check_count("softcap", n);
  MNEME_CHECK(cap > 0, "softcap: cap must be positive, got ", cap);
  HWY_DYNAMIC_DISPATCH(Softcap)(x, cap, n);
}

}  // namespace mneme
#endif
