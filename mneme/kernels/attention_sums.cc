#include "mneme/kernels/attention_sums.h"

#include <algorithm>

#include "mneme/kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "mneme/kernels/attention_sums.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "mneme/kernels/exp2-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Doubles = HWY_CAPPED(double, 8);
using Floats = hn::Rebind<float, Doubles>;

// Adding and taking away 1.5 * 2^52 units rounds to a multiple of the unit.
constexpr double kRounder = 6755399441055744.0 * kWeightUnit;

void AddWeights(const SplitWeights& split, const float* factors, double* sums) {
  const Floats d;
  const Doubles dd;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto rounder = hn::Set(dd, kRounder);
  for (size_t i = 0; i < split.pages.size(); ++i) {
    const int64_t rows = split.pages[i].rows;
    const float* page = split.weights + static_cast<int64_t>(i) * kPageRows;
    for (int64_t j = 0; j < rows; j += lanes) {
      HWY_ALIGN double tail[8];
      const bool whole = j + lanes <= rows;
      double* to = whole ? sums + j : tail;
      if (!whole) std::copy(sums + j, sums + rows, tail);
      auto sum = hn::LoadU(dd, to);
      for (int64_t t = 0; t < split.queries; ++t) {
        auto weight = hn::Zero(d);
        for (int64_t r = t * split.ratio; r < (t + 1) * split.ratio; ++r) {
          weight =
              hn::MulAdd(hn::LoadU(d, page + r * split.stride + j), hn::Set(d, factors[r]), weight);
        }
        sum = hn::Add(sum, hn::Sub(hn::Add(hn::PromoteTo(dd, weight), rounder), rounder));
      }
      hn::StoreU(sum, dd, to);
      if (!whole) std::copy(tail, tail + (rows - j), sums + j);
    }
    sums += rows;
  }
}

// factors [rows] = 2^(part_max - total_max) / total_sum
void WeightFactors(int64_t rows, const float* part_max, const Partial& total, float* factors) {
  const Floats d;
  for (int64_t r = 0; r < rows; ++r) {
    const float factor = hn::GetLane(exp2_of(hn::Set(d, part_max[r] - total.max[r])));
    factors[r] = total.sum[r] > 0 ? factor / total.sum[r] : 0.0f;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme {

HWY_EXPORT(AddWeights);
HWY_EXPORT(WeightFactors);

void weight_factors(const SplitWeights& split, const float* part_max, const Partial& total,
                    float* factors) {
  HWY_DYNAMIC_DISPATCH(WeightFactors)(split.queries * split.ratio, part_max, total, factors);
}

void add_weight_sums(const SplitWeights& split, const float* factors, double* sums) {
  HWY_DYNAMIC_DISPATCH(AddWeights)(split, factors, sums);
}

void copy_weights(const SplitWeights& split, const float* factors, float* to, int64_t query_stride,
                  int64_t head_stride) {
  for (int64_t row = 0; row < split.queries * split.ratio; ++row) {
    const float* from = split.weights + row * split.stride;
    float* out = to + row / split.ratio * query_stride + row % split.ratio * head_stride;
    for (const PageView& page : split.pages) {
      for (int64_t j = 0; j < page.rows; ++j) out[j] = from[j] * factors[row];
      from += kPageRows;
      out += page.rows;
    }
  }
}

}  // namespace mneme
#endif
