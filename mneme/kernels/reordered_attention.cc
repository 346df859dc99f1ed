#include "mneme/kernels/reordered_attention.h"

#include <algorithm>
#include <cmath>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/core/staggered_schedule.h"
#include "mneme/kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "mneme/kernels/reordered_attention.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "mneme/kernels/single_pass-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {

HWY_INLINE float dot(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b, int64_t n) {
  VF sum0 = hn::Zero(DF()), sum1 = sum0;
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    sum0 = hn::MulAdd(hn::LoadU(DF(), a + i), hn::LoadU(DF(), b + i), sum0);
    sum1 = hn::MulAdd(hn::LoadU(DF(), a + i + kLanes), hn::LoadU(DF(), b + i + kLanes), sum1);
  }
  if (i + kLanes <= n) {
    sum0 = hn::MulAdd(hn::LoadU(DF(), a + i), hn::LoadU(DF(), b + i), sum0);
    i += kLanes;
  }
  float sum = hn::GetLane(hn::SumOfLanes(DF(), hn::Add(sum0, sum1)));
  for (; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// One head. `state` [4 * padded + slots * v_dim]: scores, sums and biases of the slots, keep and
// gain of the step (scores are used up by then), value sums.
void ReorderedHead(const ReorderedAttention& config, int64_t head, const float* q, const float* k,
                   const float* v, float* o, const ReorderedTrace& trace, float* state) {
  const StaggeredSchedule schedule(config.rows, config.parallel);
  const int64_t slots = schedule.slots(), padded = (slots + kLanes - 1) / kLanes * kLanes;
  const int64_t q_step = config.heads * config.k_dim, v_step = config.heads * config.v_dim;
  q += head * config.k_dim;
  k += head * config.k_dim;
  v += head * config.v_dim;
  o += head * config.v_dim;
  float* HWY_RESTRICT scores = state;
  float* HWY_RESTRICT sums = scores + padded;
  float* HWY_RESTRICT biases = sums + padded;
  float* HWY_RESTRICT keep = biases + padded;
  float* HWY_RESTRICT values = keep + padded;
  const float lowest = -std::numeric_limits<float>::infinity();
  std::fill_n(scores, padded, lowest);
  std::fill_n(sums, padded, 0.0f);
  std::fill_n(biases, padded, lowest);
  for (int64_t step = 0; step < schedule.steps(); ++step) {
    const int64_t key = schedule.key(step);
    for (int64_t s = 0; s < slots; ++s) {
      const int64_t query = schedule.query(step, s);
      if (schedule.begins(step, s)) {
        sums[s] = 0;
        biases[s] = lowest;
        std::fill_n(values + s * config.v_dim, config.v_dim, 0.0f);
      }
      // An idle slot is masked: it changes nothing.
      scores[s] = query < 0
                      ? lowest
                      : config.scale * dot(q + query * q_step, k + key * q_step, config.k_dim);
      if (query >= 0 && trace.scores != nullptr) {
        trace.scores[(head * config.rows + query) * config.rows + key] = scores[s];
      }
    }
    for (int64_t s = 0; s < padded; s += kLanes) {
      VF sum = hn::LoadU(DF(), sums + s), bias = hn::LoadU(DF(), biases + s);
      const SinglePassFactors factors = take_scores(hn::LoadU(DF(), scores + s), sum, bias);
      hn::StoreU(sum, DF(), sums + s);
      hn::StoreU(bias, DF(), biases + s);
      hn::StoreU(factors.keep, DF(), keep + s);
      hn::StoreU(factors.gain, DF(), scores + s);
    }
    const float* HWY_RESTRICT value = v + key * v_step;
    for (int64_t s = 0; s < slots; ++s) {
      const int64_t query = schedule.query(step, s);
      if (query < 0) continue;
      const VF kept = hn::Set(DF(), keep[s]), gained = hn::Set(DF(), scores[s]);
      float* mine = values + s * config.v_dim;
      map(mine, mine, value, config.v_dim,
          [=](VF sum, VF x) HWY_ATTR { return hn::MulAdd(sum, kept, hn::Mul(x, gained)); });
      if (!schedule.ends(step, s)) continue;
      const VF inverse = hn::Set(DF(), 1 / sums[s]);
      map(o + query * v_step, mine, mine, config.v_dim,
          [inverse](VF sum, VF) HWY_ATTR { return hn::Mul(sum, inverse); });
      const int64_t at = head * config.rows + query;
      if (trace.sums != nullptr) trace.sums[at] = sums[s];
      if (trace.biases != nullptr) trace.biases[at] = biases[s];
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme {

HWY_EXPORT(ReorderedHead);

void reordered_attention(const ReorderedAttention& config, const float* q, const float* k,
                         const float* v, float* o, const ReorderedTrace& trace,
                         AttentionScratch& scratch, ThreadPool& pool) {
  MNEME_CHECK(config.rows >= 0 && config.heads >= 0 && config.k_dim >= 1 && config.v_dim >= 1,
              "reordered_attention: expected rows and heads of at least 0 and dimensions of at "
              "least 1, got ",
              config.rows, ", ", config.heads, ", ", config.k_dim, " and ", config.v_dim);
  MNEME_CHECK(std::isfinite(config.scale), "reordered_attention: expected a finite scale, got ",
              config.scale);
  const int64_t slots = StaggeredSchedule(config.rows, config.parallel).slots();
  if (config.rows == 0) return;
  constexpr int64_t kLine = 16;
  const int64_t floats = checked_round_up(
      4 * (slots + kLine) + checked_mul(slots, config.v_dim, "reordered_attention"), kLine,
      "reordered_attention");
  float* base = scratch.reserve(floats * pool.size());
  pool.run(config.heads, [&](int64_t head, int worker) {
    HWY_DYNAMIC_DISPATCH(ReorderedHead)
    (config, head, q, k, v, o, trace, base + floats * worker);
  });
}

}  // namespace mneme
#endif
