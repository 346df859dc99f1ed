#include "mneme/kernels/single_pass_softmax.h"

#include <algorithm>
#include <cmath>

#include "mneme/core/error.h"
#include "mneme/kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "mneme/kernels/single_pass_softmax.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "mneme/kernels/largest_lane-inl.h"
#include "mneme/kernels/single_pass-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {

void SinglePassStep(const float* scores, int64_t n, float* sums, float* biases, float* keep,
                    float* gain) {
  const auto take = [&](int64_t i) HWY_ATTR {
    VF sum = hn::LoadU(DF(), sums + i), bias = hn::LoadU(DF(), biases + i);
    const SinglePassFactors factors = take_scores(hn::LoadU(DF(), scores + i), sum, bias);
    hn::StoreU(sum, DF(), sums + i);
    hn::StoreU(bias, DF(), biases + i);
    if (keep != nullptr) hn::StoreU(factors.keep, DF(), keep + i);
    if (gain != nullptr) hn::StoreU(factors.gain, DF(), gain + i);
  };
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) take(i);
  if (i == n) return;
  alignas(64) float rest[5][kLanes] = {};
  const size_t bytes = static_cast<size_t>(n - i) * sizeof(float);
  memcpy(rest[0], scores + i, bytes);
  memcpy(rest[1], sums + i, bytes);
  memcpy(rest[2], biases + i, bytes);
  VF sum = hn::Load(DF(), rest[1]), bias = hn::Load(DF(), rest[2]);
  const SinglePassFactors factors = take_scores(hn::Load(DF(), rest[0]), sum, bias);
  hn::Store(sum, DF(), rest[1]);
  hn::Store(bias, DF(), rest[2]);
  hn::Store(factors.keep, DF(), rest[3]);
  hn::Store(factors.gain, DF(), rest[4]);
  memcpy(sums + i, rest[1], bytes);
  memcpy(biases + i, rest[2], bytes);
  if (keep != nullptr) memcpy(keep + i, rest[3], bytes);
  if (gain != nullptr) memcpy(gain + i, rest[4], bytes);
}

// Lanes are rows of their own, so are two interleaved sets of them, until they are merged.
void SinglePassRow(const float* scores, int64_t n, SoftmaxState* state) {
  const VF lowest = hn::Set(DF(), -std::numeric_limits<float>::infinity());
  VF sum0 = hn::Zero(DF()), sum1 = sum0, bias0 = lowest, bias1 = lowest;
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    take_scores(hn::LoadU(DF(), scores + i), sum0, bias0);
    take_scores(hn::LoadU(DF(), scores + i + kLanes), sum1, bias1);
  }
  for (; i < n; i += kLanes) {
    alignas(64) float rest[kLanes];
    hn::Store(lowest, DF(), rest);
    memcpy(rest, scores + i, static_cast<size_t>(std::min(kLanes, n - i)) * sizeof(float));
    take_scores(hn::Load(DF(), rest), sum0, bias0);
  }
  const VF top = largest_lane(DF(), hn::Max(bias0, bias1));
  // Lanes that saw nothing stay out: their bias equals the top only where every lane's does.
  const auto part = [&](VF sum, VF bias) HWY_ATTR {
    return hn::IfThenZeroElse(hn::Eq(sum, hn::Zero(DF())),
                              hn::Mul(sum, exp_of(hn::Sub(bias, top))));
  };
  state->sum = hn::GetLane(hn::SumOfLanes(DF(), hn::Add(part(sum0, bias0), part(sum1, bias1))));
  state->bias = hn::GetLane(top);
}

void SinglePassWeights(SoftmaxState state, const float* scores, int64_t n, float* weights) {
  const VF lowest = hn::Set(DF(), -std::numeric_limits<float>::infinity());
  const VF bias = hn::Set(DF(), state.bias);
  const VF inverse = hn::Set(DF(), state.sum == 0 ? 0.0f : 1 / state.sum);
  map(weights, scores, scores, n, [=](VF x, VF) HWY_ATTR {
    const VF weight = hn::Mul(exp_of(hn::Sub(x, bias)), inverse);
    return hn::IfThenZeroElse(hn::Eq(x, lowest), weight);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme {

HWY_EXPORT(SinglePassStep);
HWY_EXPORT(SinglePassRow);
HWY_EXPORT(SinglePassWeights);

void single_pass_softmax_step(const float* scores, int64_t n, float* sums, float* biases,
                              float* keep, float* gain) {
  MNEME_CHECK(n >= 0, "single_pass_softmax_step: n must not be negative, got ", n);
  HWY_DYNAMIC_DISPATCH(SinglePassStep)(scores, n, sums, biases, keep, gain);
}

SoftmaxState single_pass_softmax_row(const float* scores, int64_t n) {
  MNEME_CHECK(n >= 0, "single_pass_softmax_row: n must not be negative, got ", n);
  SoftmaxState state;
  HWY_DYNAMIC_DISPATCH(SinglePassRow)(scores, n, &state);
  return state;
}

SoftmaxState single_pass_softmax_merge(SoftmaxState a, SoftmaxState b) {
  if (a.bias < b.bias) std::swap(a, b);
  // A part that saw nothing has no bias to subtract; its sum is 0, or NaN.
  const float factor = std::isinf(b.bias) ? 1.0f : std::exp(b.bias - a.bias);
  return {a.sum + b.sum * factor, a.bias};
}

void single_pass_softmax_weights(SoftmaxState state, const float* scores, int64_t n,
                                 float* weights) {
  MNEME_CHECK(n >= 0, "single_pass_softmax_weights: n must not be negative, got ", n);
  HWY_DYNAMIC_DISPATCH(SinglePassWeights)(state, scores, n, weights);
}

}  // namespace mneme
#endif
