#include "mneme/kernels/affine_fit.h"

#include <algorithm>
#include <cmath>

#include "mneme/core/error.h"
#include "mneme/kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "mneme/kernels/affine_fit.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = HWY_CAPPED(float, 16);

// What one pass over the group gives: sums over the codes made with a scale and bias.
struct Pass {
  float codes = 0, squares = 0, products = 0;  // sum of c, c^2, c x
  float error = 0;                             // sum of (scale c + bias - x)^2
};

HWY_INLINE Pass Measure(const float* HWY_RESTRICT x, int64_t n, float scale, float bias,
                        float top) {
  const Floats d;
  const auto inverse = hn::Set(d, 1 / scale), s = hn::Set(d, scale), b = hn::Set(d, bias);
  auto codes = hn::Zero(d), squares = codes, products = codes, errors = codes;
  for (int64_t i = 0; i < n; i += static_cast<int64_t>(hn::Lanes(d))) {
    const auto v = hn::LoadU(d, x + i);
    const auto step = hn::Mul(hn::Sub(v, b), inverse);
    const auto c = hn::Round(hn::Min(hn::Max(step, hn::Zero(d)), hn::Set(d, top)));
    const auto error = hn::Sub(hn::MulAdd(s, c, b), v);
    codes = hn::Add(codes, c);
    squares = hn::MulAdd(c, c, squares);
    products = hn::MulAdd(c, v, products);
    errors = hn::MulAdd(error, error, errors);
  }
  return {hn::GetLane(hn::SumOfLanes(d, codes)), hn::GetLane(hn::SumOfLanes(d, squares)),
          hn::GetLane(hn::SumOfLanes(d, products)), hn::GetLane(hn::SumOfLanes(d, errors))};
}

void Fit(const float* HWY_RESTRICT x, int64_t n, float lo, float hi, float top, float* scale,
         float* bias) {
  const Floats d;
  auto sums = hn::Zero(d);
  for (int64_t i = 0; i < n; i += static_cast<int64_t>(hn::Lanes(d)))
    sums = hn::Add(sums, hn::LoadU(d, x + i));
  const float sum = hn::GetLane(hn::SumOfLanes(d, sums));
  const auto count = static_cast<float>(n);
  const float inset = 0.02f * (hi - lo);
  float best = hwy::HighestValue<float>();
  const auto consider = [&](float s, float b) {
    const Pass pass = Measure(x, n, s, b, top);
    if (pass.error < best) {
      best = pass.error;
      *scale = s;
      *bias = b;
    }
    return pass;
  };
  for (int low = 0; low < 3; ++low) {
    for (int high = 0; high < 3; ++high) {
      const float edge = lo + static_cast<float>(low) * inset;
      const float step = (hi - static_cast<float>(high) * inset - edge) / top;
      const Pass pass = consider(step, edge);
      const float spread = count * pass.squares - pass.codes * pass.codes;
      const float slope = (count * pass.products - sum * pass.codes) / spread;
      if (spread > 0 && slope > 0) consider(slope, (sum - slope * pass.codes) / count);
    }
  }
}

// codes [n] of the pass that Measure made with the same scale and bias; returns x . x over x . x',
// 1 where that is no positive number.
float EncodeFitted(const float* HWY_RESTRICT x, int64_t n, float scale, float bias, float top,
                   uint8_t* HWY_RESTRICT codes) {
  const Floats d;
  const hn::Rebind<uint8_t, Floats> db;
  const auto inverse = hn::Set(d, 1 / scale), s = hn::Set(d, scale), b = hn::Set(d, bias);
  auto square = hn::Zero(d), product = hn::Zero(d);
  for (int64_t i = 0; i < n; i += static_cast<int64_t>(hn::Lanes(d))) {
    const auto v = hn::LoadU(d, x + i);
    const auto step = hn::Mul(hn::Sub(v, b), inverse);
    const auto code = hn::NearestInt(hn::Min(hn::Max(step, hn::Zero(d)), hn::Set(d, top)));
    hn::StoreU(hn::DemoteTo(db, code), db, codes + i);
    square = hn::MulAdd(v, v, square);
    product = hn::MulAdd(v, hn::MulAdd(s, hn::ConvertTo(d, code), b), product);
  }
  const float ratio =
      hn::GetLane(hn::SumOfLanes(d, square)) / hn::GetLane(hn::SumOfLanes(d, product));
  return ratio > 0 && ratio < 2 ? ratio : 1;
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme {

HWY_EXPORT(Fit);
HWY_EXPORT(EncodeFitted);

AffineParams affine_fit_group(const float* x, int64_t n, int bits, uint8_t* codes) {
  MNEME_CHECK(n > 0 && n % 16 == 0 && n <= 512,
              "affine fit: expected a group of 16 to 512 elements, a multiple of 16, got ", n);
  // Checks the values, and is the answer where the range leaves nothing to fit.
  const AffineParams edges = affine_quantize_group(x, n, bits, codes);
  const auto [lo, hi] = std::minmax_element(x, x + n);
  const float top = static_cast<float>((1 << bits) - 1);
  // Below this a step's reciprocal or the squared errors would leave the normal numbers.
  constexpr float kSmallestStep = 1e-15f, kLargestRange = 1e15f;
  if (!((*hi - *lo) / top > kSmallestStep) || *hi - *lo > kLargestRange) return edges;
  AffineParams fitted;
  HWY_DYNAMIC_DISPATCH(Fit)(x, n, *lo, *hi, top, &fitted.scale, &fitted.bias);
  const float ratio =
      HWY_DYNAMIC_DISPATCH(EncodeFitted)(x, n, fitted.scale, fitted.bias, top, codes);
  return {fitted.scale * ratio, fitted.bias * ratio};
}

}  // namespace mneme
#endif
