// One step of the single-pass softmax (single_pass_softmax.h), a row a lane.
#include "mneme/kernels/vector_map-inl.h"

#include <limits>

#if defined(MNEME_KERNELS_SINGLE_PASS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_KERNELS_SINGLE_PASS_INL_H_
#undef MNEME_KERNELS_SINGLE_PASS_INL_H_
#else
#define MNEME_KERNELS_SINGLE_PASS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {

struct SinglePassFactors {
  VF keep, gain;
};

// Takes one score into every lane. Both branches of the paper's rule need exp(-|x - bias|), so one
// exponential serves them.
HWY_INLINE SinglePassFactors take_scores(VF x, VF& sum, VF& bias) {
  const VF one = hn::Set(DF(), 1.0f);
  const VF lowest = hn::Set(DF(), -std::numeric_limits<float>::infinity());
  const auto grows = hn::Gt(x, bias);
  const VF fall = exp_of(hn::Neg(hn::Abs(hn::Sub(x, bias))));
  const VF keep = hn::IfThenElse(grows, fall, one);
  // x - x is NaN for what exp_of swallows: NaN itself, and a second +infinity.
  const VF weight = hn::Add(hn::IfThenElse(grows, one, fall), hn::Sub(x, x));
  const VF gain = hn::IfThenZeroElse(hn::Eq(x, lowest), weight);
  sum = hn::MulAdd(sum, keep, gain);
  bias = hn::IfThenElse(grows, x, bias);
  return {keep, gain};
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();
#endif
