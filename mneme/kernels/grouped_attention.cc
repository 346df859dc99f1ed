#include "mneme/kernels/grouped_attention.h"

#include <algorithm>

#include "mneme/core/error.h"
#include "mneme/kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "mneme/kernels/grouped_attention.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cmath>

#include "mneme/kernels/exp2-inl.h"
#include "mneme/kernels/largest_lane-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using BlockFloats = hn::ScalableTag<float>;
using BlockVector = hn::Vec<BlockFloats>;
constexpr float kUnseen = -std::numeric_limits<float>::infinity();
constexpr float kLog2E = 1.4426950408889634f;

HWY_INLINE BlockVector load_stored(const float* from) { return hn::LoadU(BlockFloats(), from); }
HWY_INLINE BlockVector load_stored(const hwy::float16_t* from) {
  const hn::Rebind<hwy::float16_t, BlockFloats> halves;
  return hn::PromoteTo(BlockFloats(), hn::LoadU(halves, from));
}

// acc[0 .. kVectors) += factors[i] * rows[i * stride ...] over i < count, then out = scale * acc.
template <int kVectors, class Stored>
HWY_INLINE void sum_rows(const float* factors, int64_t count, const Stored* rows, int64_t stride,
                         float scale, float* out) {
  const BlockFloats d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  BlockVector acc[kVectors];
  for (int i = 0; i < kVectors; ++i) acc[i] = hn::Zero(d);
  for (int64_t i = 0; i < count; ++i) {
    const BlockVector factor = hn::Set(d, factors[i]);
    for (int v = 0; v < kVectors; ++v)
      acc[v] = hn::MulAdd(factor, load_stored(rows + i * stride + v * lanes), acc[v]);
  }
  const BlockVector by = hn::Set(d, scale);
  for (int v = 0; v < kVectors; ++v) hn::StoreU(hn::Mul(by, acc[v]), d, out + v * lanes);
}

// out [columns, rounded up to vectors] = scale * (factors [count] times rows [count, stride]). Each
// column's sum runs over the rows in order, whatever the vector.
template <class Stored>
HWY_INLINE void multiply_rows(const float* factors, int64_t count, const Stored* rows,
                              int64_t stride, int64_t columns, float scale, float* out) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(BlockFloats()));
  int64_t c = 0;
  for (; columns - c > 3 * lanes; c += 4 * lanes)
    sum_rows<4>(factors, count, rows + c, stride, scale, out + c);
  for (; columns - c > lanes; c += 2 * lanes)
    sum_rows<2>(factors, count, rows + c, stride, scale, out + c);
  for (; c < columns; c += lanes) sum_rows<1>(factors, count, rows + c, stride, scale, out + c);
}

template <class Stored>
HWY_INLINE void score_block(const RowBlock& layout, BlockScale scale, const BlockItem& item,
                            float* scores) {
  const BlockFloats d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto* keys = reinterpret_cast<const Stored*>(item.block) + item.first;
  multiply_rows(item.q, layout.k_dim, keys, layout.rows, item.rows, scale.scale, scores);
  if (scale.softcap <= 0) return;
  const BlockVector cap = hn::Set(d, scale.softcap), inverse = hn::Set(d, 1 / scale.softcap);
  for (int64_t j = 0; j < item.rows; j += lanes)
    hn::StoreU(hn::Mul(cap, tanh_of(hn::Mul(inverse, hn::LoadU(d, scores + j)))), d, scores + j);
}

// scores [count] become exp(score - *top), zeros up to a whole vector; returns their sum.
HWY_INLINE float weigh_scores(float* scores, int64_t count, float* top) {
  const BlockFloats d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  hn::StoreU(hn::Set(d, kUnseen), d, scores + count);
  BlockVector largest = hn::Set(d, kUnseen);
  for (int64_t j = 0; j < count; j += lanes) largest = hn::Max(largest, hn::LoadU(d, scores + j));
  largest = largest_lane(d, largest);
  *top = hn::GetLane(largest);
  const BlockVector log2e = hn::Set(d, kLog2E);
  BlockVector sum = hn::Zero(d);
  for (int64_t j = 0; j < count; j += lanes) {
    const BlockVector weight = exp2_of(hn::Mul(log2e, hn::Sub(hn::LoadU(d, scores + j), largest)));
    hn::StoreU(weight, d, scores + j);
    sum = hn::Add(sum, weight);
  }
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

HWY_INLINE float exp_of_one(float x) {
  const hn::CappedTag<float, 1> d;
  return hn::GetLane(exp2_of(hn::Set(d, kLog2E * x)));
}

// The online softmax of one query.
struct BlockSums {
  float top = kUnseen;
  float sum = 0;
  float* values;  // [columns] weighted, not divided by sum

  // One item with this logit: `weight` in units of exp(logit), and its value, weighted likewise.
  HWY_INLINE void take(float logit, float weight, const float* value, int64_t columns) {
    const BlockFloats d;
    const auto lanes = static_cast<int64_t>(hn::Lanes(d));
    const float larger = std::max(top, logit);
    const float keep = top == kUnseen ? 0 : exp_of_one(top - larger);
    const float gain = exp_of_one(logit - larger);
    top = larger;
    sum = sum * keep + weight * gain;
    const BlockVector kept = hn::Set(d, keep), gained = hn::Set(d, gain);
    for (int64_t c = 0; c < columns; c += lanes) {
      const BlockVector old = hn::Mul(kept, hn::LoadU(d, values + c));
      hn::StoreU(value == nullptr ? old : hn::MulAdd(gained, hn::LoadU(d, value + c), old), d,
                 values + c);
    }
  }
};

template <class Stored>
HWY_INLINE void attend_blocks(const RowBlock& layout, BlockScale scale,
                              std::span<const BlockItem> items, float* out, float* scratch) {
  const BlockFloats d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t columns = layout.v_dim;
  const int64_t padded = (columns + 15) / 16 * 16;
  float* const scores = scratch + 2 * padded;
  float* const value = scratch + padded;
  BlockSums sums{.values = scratch};
  std::fill_n(scratch, padded, 0.0f);
  for (const BlockItem& item : items) {
    if (item.rows == 0) continue;
    score_block<Stored>(layout, scale, item, scores);
    const int64_t group = item.closed ? item.rows - 1 : item.rows;
    const float landmark = scores[group];
    const auto* rows =
        reinterpret_cast<const Stored*>(item.block + layout.key_bytes()) + item.first * columns;
    if (group == 0) {
      sums.take(landmark, 1, nullptr, columns);  // a landmark that closes nothing: its mass is lost
      continue;
    }
    float top;
    const float sum = weigh_scores(scores, group, &top);
    multiply_rows(scores, group, rows, columns, columns, item.closed ? 1 / sum : 1.0f, value);
    sums.take(item.closed ? landmark : top, item.closed ? 1.0f : sum, value, columns);
  }
  const BlockVector inverse = hn::Set(d, sums.sum == 0 ? 0.0f : 1 / sums.sum);
  for (int64_t c = 0; c < columns; c += lanes)
    hn::StoreU(hn::Mul(inverse, hn::LoadU(d, scratch + c)), d, scratch + c);
  std::copy_n(scratch, columns, out);
}

void ScoreRows(const RowBlock& layout, BlockScale scale, const BlockItem& item, float* scores) {
  if (layout.dtype == DType::kF16) {
    score_block<hwy::float16_t>(layout, scale, item, scores);
  } else {
    score_block<float>(layout, scale, item, scores);
  }
}

void GroupedAttention(const RowBlock& layout, BlockScale scale, std::span<const BlockItem> items,
                      float* out, float* scratch) {
  if (layout.dtype == DType::kF16) {
    attend_blocks<hwy::float16_t>(layout, scale, items, out, scratch);
  } else {
    attend_blocks<float>(layout, scale, items, out, scratch);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme {
namespace {

HWY_EXPORT(ScoreRows);
HWY_EXPORT(GroupedAttention);

void check(const RowBlock& layout, const BlockItem& item, const char* what) {
  MNEME_CHECK(item.first >= 0 && item.rows >= 0 && item.first + item.rows <= layout.rows, what,
              ": rows ", item.first, " to ", item.first + item.rows, " are outside a block of ",
              layout.rows);
  MNEME_CHECK(item.rows == 0 || (item.block != nullptr && item.q != nullptr), what, ": null rows");
}

}  // namespace

void score_rows(const RowBlock& layout, BlockScale scale, const BlockItem& item, float* scores) {
  check(layout, item, "score_rows");
  HWY_DYNAMIC_DISPATCH(ScoreRows)(layout, scale, item, scores);
}

void grouped_attention(const RowBlock& layout, BlockScale scale, std::span<const BlockItem> items,
                       float* out, std::vector<float>& scratch) {
  for (const BlockItem& item : items) check(layout, item, "grouped_attention");
  const auto floats = static_cast<size_t>(2 * (layout.v_dim + 16) + layout.rows + 32);
  if (scratch.size() < floats) scratch.resize(floats);
  HWY_DYNAMIC_DISPATCH(GroupedAttention)(layout, scale, items, out, scratch.data());
}

}  // namespace mneme
#endif
