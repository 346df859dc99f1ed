// The largest lane of a vector of scores, where all of them may be masked. Tests:
// single_pass_softmax_test.cc, paged_attention_test.cc.
#if defined(MNEME_KERNELS_LARGEST_LANE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_KERNELS_LARGEST_LANE_INL_H_
#undef MNEME_KERNELS_LARGEST_LANE_INL_H_
#else
#define MNEME_KERNELS_LARGEST_LANE_INL_H_
#endif

#include <hwy/highway.h>

#include <limits>

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {

// In every lane. Highway's portable form of MaxOfLanes starts at the lowest finite number, so it
// cannot answer -infinity.
template <typename D, typename V>
HWY_INLINE V largest_lane(D d, V v) {
  namespace hn = hwy::HWY_NAMESPACE;
  const V masked = hn::Set(d, -std::numeric_limits<float>::infinity());
  return hn::AllTrue(d, hn::Eq(v, masked)) ? masked : hn::MaxOfLanes(d, v);
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#endif
