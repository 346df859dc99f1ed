// Softmax of one query row over one split, per SIMD target: scores become weights in place,
// relative to the split's largest score. Tests: paged_attention_test.cc.
#if defined(MNEME_KERNELS_ATTENTION_SOFTMAX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_KERNELS_ATTENTION_SOFTMAX_INL_H_
#undef MNEME_KERNELS_ATTENTION_SOFTMAX_INL_H_
#else
#define MNEME_KERNELS_ATTENTION_SOFTMAX_INL_H_
#endif

#include <hwy/highway.h>

#include <limits>

#include "mneme/kernels/attention_product-inl.h"
#include "mneme/kernels/attention_visible.h"
#include "mneme/kernels/exp2-inl.h"
#include "mneme/kernels/largest_lane-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr float kNothing = -std::numeric_limits<float>::infinity();

// Columns of a page, in whole vectors, that hold every row a query sees.
HWY_INLINE int64_t seen_columns(const VisibleRows& visible) {
  return (visible.end() + kLanes - 1) / kLanes * kLanes;
}

// Caps and masks the scores of one page in place; returns the larger of `top` and them.
HWY_INLINE FloatVector mask_scores(const VisibleRows& visible, float cap, float* s,
                                   FloatVector top) {
  const Floats d;
  const hn::RebindToSigned<Floats> di;
  const int64_t columns = seen_columns(visible);
  const bool all = visible.begin() == 0 && visible.low <= visible.sink &&
                   visible.end() == columns && visible.hidden == 0;
  if (all && columns == kPageRows && cap == 0) {
    MNEME_UNROLL
    for (int64_t j = 0; j < kPageRows; j += kLanes) top = hn::Max(top, hn::LoadU(d, s + j));
    return top;
  }
  for (int64_t j = 0; j < columns; j += kLanes) {
    FloatVector score = hn::LoadU(d, s + j);
    if (cap > 0) score = hn::Mul(hn::Set(d, cap), tanh_of(score));
    if (!all) {
      const auto slot = hn::Iota(di, static_cast<int32_t>(j));
      const auto in_sink = hn::Lt(slot, hn::Set(di, visible.sink));
      const auto in_window = hn::AndNot(hn::Lt(slot, hn::Set(di, visible.low)),
                                        hn::Lt(slot, hn::Set(di, visible.high)));
      const auto seen = hn::RebindMask(d, hn::Or(in_sink, in_window));
      score = hn::IfThenElse(seen, score, hn::Set(d, kNothing));
      if (visible.hidden != 0) {
        const uint64_t bits = visible.hidden >> j;
        const auto hidden = hn::LoadMaskBits(d, reinterpret_cast<const uint8_t*>(&bits));
        score = hn::IfThenElse(hidden, hn::Set(d, kNothing), score);
      }
    }
    if (cap > 0 || !all) hn::StoreU(score, d, s + j);
    top = hn::Max(top, score);
  }
  return top;
}

// A vector of scores becomes weights, which are added to `total`.
HWY_INLINE void weigh(float* s, FloatVector shift, FloatVector& total) {
  const Floats d;
  const FloatVector weight = exp2_of(hn::Sub(hn::LoadU(d, s), shift));
  hn::StoreU(weight, d, s);
  total = hn::Add(total, weight);
}

// s [pages, 64]: scores of a row, which sees visible[page * visible_stride] of each page. They
// become 2^(s - *max), zeros where it sees nothing; *sum is their sum.
HWY_INLINE void softmax_row(const VisibleRows* visible, int64_t visible_stride, int64_t pages,
                            float cap, float* s, float* max, float* sum) {
  const Floats d;
  FloatVector top = hn::Set(d, kNothing);
  for (int64_t page = 0; page < pages; ++page) {
    const VisibleRows& rows = visible[page * visible_stride];
    if (!rows.empty()) top = mask_scores(rows, cap, s + page * kPageRows, top);
  }
  *max = hn::GetLane(largest_lane(d, top));
  const FloatVector shift = hn::Set(d, *max == kNothing ? 0.0f : *max);
  FloatVector total = hn::Zero(d);
  for (int64_t page = 0; page < pages; ++page) {
    const VisibleRows& rows = visible[page * visible_stride];
    float* to = s + page * kPageRows;
    const int64_t columns = rows.empty() ? 0 : seen_columns(rows);
    if (columns == kPageRows) {
      MNEME_UNROLL
      for (int64_t j = 0; j < kPageRows; j += kLanes) weigh(to + j, shift, total);
      continue;
    }
    for (int64_t j = 0; j < columns; j += kLanes) weigh(to + j, shift, total);
    for (int64_t j = columns; j < kPageRows; j += kLanes) hn::StoreU(hn::Zero(d), d, to + j);
  }
  *sum = hn::GetLane(hn::SumOfLanes(d, total));
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#endif
