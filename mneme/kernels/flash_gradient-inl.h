// Between the products of the backward pass: from scores and gradients of weights to weights and
// gradients of scores, per SIMD target. Tests: flash_backward_test.cc.
#include "mneme/kernels/flash_backward.h"

#if defined(MNEME_KERNELS_FLASH_GRADIENT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_KERNELS_FLASH_GRADIENT_INL_H_
#undef MNEME_KERNELS_FLASH_GRADIENT_INL_H_
#else
#define MNEME_KERNELS_FLASH_GRADIENT_INL_H_
#endif

#include "mneme/kernels/flash_mask-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {

// Scores become the weights that multiplied the values; gradients of those (kCentred: less the
// row's delta) become gradients of the scores.
template <bool kCentred>
HWY_INLINE void differentiate(const ScoreBlock& block, const BackwardMemory& memory,
                              const TileRows& rows, const float* deltas, const FlashPlan& plan) {
  const Floats d;
  const bool dropout = plan.config.dropout > 0;
  const auto step = [&](int64_t at, auto keep) HWY_ATTR {
    const int64_t lane = at % kFlashRows;
    const FloatVector scale = hn::IfThenElseZero(keep, hn::Set(d, plan.keep_scale));
    const FloatVector weight =
        exp_of(hn::Sub(hn::LoadU(d, block.scores + at), hn::Load(d, rows.lse + lane)));
    FloatVector gradient = hn::LoadU(d, memory.slopes + at);
    if (!kCentred || dropout) {
      const FloatVector delta = hn::LoadU(d, deltas + lane);
      if (kCentred) gradient = hn::Add(gradient, delta);
      gradient = hn::MulSub(gradient, scale, delta);
    }
    FloatVector slope = hn::Mul(weight, gradient);
    if (plan.cap > 0) slope = hn::Mul(slope, hn::LoadU(d, memory.bends + at));
    hn::StoreU(hn::Mul(weight, scale), d, block.scores + at);
    hn::StoreU(slope, d, memory.slopes + at);
  };
  if (dropout) return for_each_kept(block, rows.lanes, plan, step);
  const auto all = hn::Eq(hn::Zero(d), hn::Zero(d));
  for (int64_t j = 0; j < block.keys; ++j) {
    for (int64_t v = 0; v < block.width; v += kLanes) step(j * kFlashRows + v, all);
  }
}

// 1 - tanh^2 of the uncapped scores.
HWY_INLINE void bend_scores(const ScoreBlock& block, float* bends) {
  const Floats d;
  for (int64_t j = 0; j < block.keys; ++j) {
    for (int64_t v = 0; v < block.width; v += kLanes) {
      const int64_t at = j * kFlashRows + v;
      const FloatVector bent = tanh_of(hn::LoadU(d, block.scores + at));
      hn::StoreU(hn::NegMulAdd(bent, bent, hn::Set(d, 1.0f)), d, bends + at);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();
#endif
