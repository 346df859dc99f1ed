// Horizontal sums of many vectors at once. Each vector is added up by one fixed tree, lane i with
// lane i + n/2 of the n that are left, whatever the number of vectors: the sums of a vector alone
// and among others have the same bits.
#include <cstdint>

#include "mneme/kernels/quant_blocks-inl.h"

#if defined(MNEME_KERNELS_LANE_SUMS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_KERNELS_LANE_SUMS_INL_H_
#undef MNEME_KERNELS_LANE_SUMS_INL_H_
#else
#define MNEME_KERNELS_LANE_SUMS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR
// One level of the tree for two vectors: each half of the result is a folded vector (or, below 8
// lanes, each pair of lanes, then each lane).
template <int64_t kFrom>
HWY_INLINE VF fold_pair(VF a, VF b) {
  if constexpr (kFrom == kLanes && kLanes >= 8) {
    return hn::Add(hn::ConcatLowerLower(DF(), b, a), hn::ConcatUpperUpper(DF(), b, a));
  } else if constexpr (kFrom == 8) {
    return hn::Add(hn::OddEvenBlocks(b, a), hn::SwapAdjacentBlocks(hn::OddEvenBlocks(a, b)));
  } else if constexpr (kFrom == 4) {
    const hn::Repartition<uint64_t, DF> d64;
    const auto a64 = hn::BitCast(d64, a), b64 = hn::BitCast(d64, b);
    return hn::Add(hn::BitCast(DF(), hn::InterleaveLower(d64, a64, b64)),
                   hn::BitCast(DF(), hn::InterleaveUpper(d64, a64, b64)));
  } else {
    return hn::Add(hn::OddEven(b, a), hn::Shuffle2301(hn::OddEven(a, b)));
  }
}
#endif

constexpr int64_t reversed_bits(int64_t value, int64_t below) {
  int64_t result = 0;
  for (int64_t bit = 1; bit < below; bit *= 2) result = result * 2 + ((value & bit) ? 1 : 0);
  return result;
}

// Where lane_sums puts the sum of vector i.
constexpr int64_t sum_slot(int64_t i) {
  return i / kLanes * kLanes + reversed_bits(i % kLanes, kLanes);
}

// Folds `acc` [kCount] in place level by level; an odd one out is paired with itself.
template <int64_t kCount, int64_t kFrom>
HWY_INLINE void fold_all([[maybe_unused]] VF* HWY_RESTRICT acc) {
#if HWY_TARGET != HWY_SCALAR
  if constexpr (kFrom > 1) {
    HWY_UNROLL(16)
    for (int64_t i = 0; i < (kCount + 1) / 2; ++i) {
      acc[i] = fold_pair<kFrom>(acc[2 * i], acc[2 * i + 1 < kCount ? 2 * i + 1 : 2 * i]);
    }
    fold_all<(kCount + 1) / 2, kFrom / 2>(acc);
  }
#endif
}

// sums[sum_slot(i)] = the sum of the lanes of acc[i]; acc is used up. sums has room for kCount
// rounded up to whole vectors.
template <int64_t kCount>
HWY_INLINE void lane_sums(VF* HWY_RESTRICT acc, float* HWY_RESTRICT sums) {
  fold_all<kCount, kLanes>(acc);
  HWY_UNROLL(16)
  for (int64_t i = 0; i < (kCount + kLanes - 1) / kLanes; ++i) {
    hn::Store(acc[i], DF(), sums + i * kLanes);
  }
}

// The first `n` < lanes values at `from`, zeros behind them; reads nothing else.
HWY_INLINE VF load_first(const float* HWY_RESTRICT from, int64_t n) {
  alignas(64) float padded[kLanes] = {};
  memcpy(padded, from, static_cast<size_t>(n) * sizeof(float));
  return hn::Load(DF(), padded);
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();
#endif
