#include <cmath>

#include "mneme/core/error.h"
#include "mneme/kernels/elementwise.h"
#include "mneme/kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "mneme/kernels/rope.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// (a, b) -> (a cos - b sin, a sin + b cos), `d` lanes at a time.
template <typename D, typename V = hn::Vec<D>>
HWY_INLINE void rotate(D d, V& a, V& b, const float* cosines, const float* sines) {
  const V c = hn::LoadU(d, cosines), s = hn::LoadU(d, sines);
  const V turned = hn::NegMulAdd(b, s, hn::Mul(a, c));
  b = hn::MulAdd(b, c, hn::Mul(a, s));
  a = turned;
}

// Pairs first.. of one head as long as they fill a vector of `d`; returns how far it came.
template <typename D>
HWY_INLINE int64_t rotate_head(D d, float* v, int64_t first, int64_t half, bool halves,
                               const float* cosines, const float* sines) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = first;
  for (; i + lanes <= half; i += lanes) {
    hn::Vec<D> a, b;
    if (halves) {
      a = hn::LoadU(d, v + i);
      b = hn::LoadU(d, v + half + i);
      rotate(d, a, b, cosines + i, sines + i);
      hn::StoreU(a, d, v + i);
      hn::StoreU(b, d, v + half + i);
    } else {
      hn::LoadInterleaved2(d, v + 2 * i, a, b);
      rotate(d, a, b, cosines + i, sines + i);
      hn::StoreInterleaved2(a, b, d, v + 2 * i);
    }
  }
  return i;
}

void Rope(float* x, int64_t tokens, int64_t heads, int64_t dim, bool halves, const float* cosines,
          const float* sines) {
  const int64_t half = dim / 2;
  for (int64_t t = 0; t < tokens; ++t) {
    const float* c = cosines + t * half;
    const float* s = sines + t * half;
    for (int64_t h = 0; h < heads; ++h) {
      float* v = x + (t * heads + h) * dim;
      const int64_t done = rotate_head(hn::ScalableTag<float>(), v, 0, half, halves, c, s);
      rotate_head(hn::CappedTag<float, 1>(), v, done, half, halves, c, s);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme {

HWY_EXPORT(Rope);

void rope_table(int64_t first_position, int64_t count, int64_t dim, double base, double scale,
                const float* factors, float* cosines, float* sines) {
  MNEME_CHECK(dim > 0 && dim % 2 == 0, "rope_table: dim must be positive and even, got ", dim);
  MNEME_CHECK(count >= 0, "rope_table: count must not be negative, got ", count);
  MNEME_CHECK(base > 0 && scale > 0, "rope_table: base and scale must be positive, got ", base,
              ", ", scale);
  const int64_t half = dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    double frequency =
        std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(dim)) / scale;
    if (factors != nullptr) frequency /= static_cast<double>(factors[i]);
    for (int64_t t = 0; t < count; ++t) {
      const double angle = static_cast<double>(first_position + t) * frequency;
      cosines[t * half + i] = static_cast<float>(std::cos(angle));
      sines[t * half + i] = static_cast<float>(std::sin(angle));
    }
  }
}

void rope(float* x, int64_t tokens, int64_t heads, int64_t dim, RopePairs pairs,
          const float* cosines, const float* sines) {
  MNEME_CHECK(dim > 0 && dim % 2 == 0, "rope: dim must be positive and even, got ", dim);
  MNEME_CHECK(tokens >= 0 && heads >= 0, "rope: tokens and heads must not be negative, got ",
              tokens, ", ", heads);
  HWY_DYNAMIC_DISPATCH(Rope)(x, tokens, heads, dim, pairs == RopePairs::kHalves, cosines, sines);
}

}  // namespace mneme
#endif
