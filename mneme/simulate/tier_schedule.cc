#include "mneme/simulate/tier_schedule.h"

#include <algorithm>
#include <cmath>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"

namespace mneme {
namespace {

constexpr double kBetas[] = {0, 0.25, 0.5, 0.75, 1};

// Shares are seldom binary fractions: a product that should be whole may miss it by a rounding.
constexpr double kRounding = 1e-12;

int64_t rounded_up(double share, int64_t of) {
  return static_cast<int64_t>(std::ceil(share * static_cast<double>(of) - kRounding));
}

void check_costs(const TierCosts& costs) {
  MNEME_CHECK(costs.bandwidth > 0, "tier costs: the bandwidth must be positive, got ",
              costs.bandwidth);
}

}  // namespace

int64_t half_window(int64_t n, double ratio) {
  return std::max<int64_t>(
      1, static_cast<int64_t>(std::floor(static_cast<double>(n) * ratio / 2 + kRounding)));
}

void TierSchedule::validate() const {
  MNEME_CHECK(alpha >= 0 && alpha <= 1, "tier schedule: alpha must be 0 to 1, got ", alpha);
  MNEME_CHECK(beta >= 0 && beta <= 1, "tier schedule: beta must be 0 to 1, got ", beta);
  MNEME_CHECK(p1 >= 0 && p1 <= p2, "tier schedule: p1 must be 0 to p2 = ", p2, ", got ", p1);
}

TierPlacement place_tokens(const TierSchedule& schedule, const TierRules& rules, int64_t step,
                           int64_t n, const TierPlacement& before) {
  const int64_t phase = schedule.phase(step), block = rules.block;
  TierPlacement next = before;
  if (phase == 1) return next;
  const int64_t wanted =
      std::max({rounded_up(schedule.alpha, n), n - rules.capacity, before.slow_end});
  const int64_t movable = std::max<int64_t>(0, n - half_window(n, rules.ratio));
  next.slow_end = std::min(ceil_div(wanted, block) * block, movable / block * block);
  next.slow_end = std::max(next.slow_end, before.slow_end);
  if (phase == 3) {
    const int64_t most = std::min(next.slow_end, rules.deletable);
    const int64_t share = std::min(rounded_up(schedule.beta, next.slow_end), most);
    next.deleted = std::max(share / block * block, before.deleted);
  }
  return next;
}

std::vector<TierStep> simulate_tiers(int64_t prompt, const TierTrace& trace,
                                     const TierSchedule& schedule, const TierRules& rules,
                                     const TierCosts& costs, const TierPlacement& initial) {
  schedule.validate();
  check_costs(costs);
  MNEME_CHECK(prompt >= 0, "tier schedule: the prompt must not be negative, got ", prompt);
  MNEME_CHECK(rules.ratio > 0 && rules.ratio <= 1,
              "tier schedule: the ratio must be above 0 and at most 1, got ", rules.ratio);
  MNEME_CHECK(rules.block >= 1 && rules.capacity >= 1,
              "tier schedule: block and capacity must be at least 1, got ", rules.block, " and ",
              rules.capacity);
  std::vector<TierStep> steps;
  TierPlacement at = initial;
  for (int64_t j = 0; j < std::ssize(trace); ++j) {
    const int64_t n = prompt + j + 1;
    TierStep step{.phase = schedule.phase(j)};
    const auto& layers = trace[static_cast<size_t>(j)];
    for (const auto& chosen : layers) {
      for (const int32_t token : chosen) {
        MNEME_CHECK(token >= 0 && token < n, "tier schedule: step ", j,
                    " of the trace reads token ", token, " of ", n);
        if (token < at.deleted) {
          ++step.recomputes;
          step.prefix = std::max<int64_t>(step.prefix, token + 1);
        } else if (token < at.slow_end) {
          ++step.loads;
        }
      }
    }
    const TierPlacement next = place_tokens(schedule, rules, j, n, at);
    step.stores = (next.slow_end - at.slow_end) * std::ssize(layers);
    at = next;
    step.fast = n - at.slow_end;
    step.slow = at.slow_end - at.deleted;
    step.deleted = at.deleted;
    const int64_t read = std::min(n, 2 * half_window(n, rules.ratio));
    step.time = costs.c0 + costs.c1 * static_cast<double>(read) +
                static_cast<double>(step.loads + step.stores) * costs.bytes / costs.bandwidth +
                static_cast<double>(step.recomputes) * costs.recompute +
                static_cast<double>(step.prefix) * costs.replay;
    steps.push_back(step);
  }
  return steps;
}

double total_time(std::span<const TierStep> steps) {
  double total = 0;
  for (const TierStep& step : steps) total += step.time;
  return total;
}

TierSchedule search_schedule(int64_t prompt, const TierTrace& trace, const TierRules& rules,
                             const TierCosts& costs, const TierPlacement& initial,
                             const std::function<void(int64_t, int64_t)>& progress) {
  const auto steps = std::ssize(trace);
  MNEME_CHECK(steps > 0, "tier schedule: the trace has no steps");
  TierSchedule best;
  best.p1 = std::clamp<int64_t>(rules.capacity - prompt, 0, steps);
  best.alpha =
      std::max(0.0, 1 - static_cast<double>(rules.capacity) / static_cast<double>(prompt + steps));
  const int64_t last = steps, total = std::ssize(kBetas) * (last - best.p1 + 1);
  double least = std::numeric_limits<double>::infinity();
  TierSchedule candidate = best;
  int64_t done = 0;
  for (const double beta : kBetas) {
    for (int64_t p2 = best.p1; p2 <= last; ++p2) {
      candidate.beta = beta;
      candidate.p2 = p2;
      const double time =
          total_time(simulate_tiers(prompt, trace, candidate, rules, costs, initial));
      if (time < least) {
        least = time;
        best = candidate;
      }
      if (progress) progress(++done, total);
    }
  }
  return best;
}

}  // namespace mneme
