// Where the tokens of one sequence lie while it is decoded, when the fast memory cannot hold them all:
// the newest in the fast tier, older ones in a slow one, the oldest deleted. The rule, what a schedule
// costs, and the search for the cheapest. (papers/12 sections 3.2 and 3.3; ALISA, ISCA 2024, arXiv
// 2403.17312. Placement and search are written out here because the paper leaves them open.)
//
// Step j of decoding ends with n = prompt + j + 1 tokens, of which the newest k never move:
//   phase I    j < p1    nothing moves
//   phase II   j < p2    off = min(max(ceil(alpha n), n - capacity, off before), n - k)
//   phase III            deleted = max(ceil(beta off), deleted before)
//   tokens [0, deleted) are deleted, [deleted, off) slow, [off, n) fast
// A step reads chosen older tokens with the placement of the step before:
//   T_j = c0 + c1 min(n, 2k) + (loads + stores) bytes / bandwidth + recomputes recompute
//         + prefix replay         prefix: tokens that are run again to get the deleted ones back
//
// Tests: tier_schedule_test.cc.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <vector>

namespace mneme {

// k: half of the tokens that a query reads of n, at least 1. ratio in (0, 1].
int64_t half_window(int64_t n, double ratio);

struct TierSchedule {
  double alpha = 0;  // share of tokens kept out of the fast tier, in [0, 1]
  double beta = 0;   // share of those that are deleted, in [0, 1]
  int64_t p1 = 0;    // the first step of phase II; at most p2
  int64_t p2 = std::numeric_limits<int64_t>::max();

  // Throws Error naming the value that cannot be.
  void validate() const;
  int64_t phase(int64_t step) const { return step < p1 ? 1 : step < p2 ? 2 : 3; }
};

struct TierPlacement {
  int64_t slow_end = 0;  // the first token of the fast tier
  int64_t deleted = 0;   // the first token that is not deleted

  bool operator==(const TierPlacement&) const = default;
};

// What a placement must respect besides the schedule.
struct TierRules {
  double ratio = 0.2;    // half_window
  int64_t capacity = 0;  // tokens the fast tier holds
  int64_t block = 1;     // tokens that move together: both ends are multiples of it
  int64_t deletable = std::numeric_limits<int64_t>::max();  // tokens that may be deleted at all
};

// The placement after `step`, with n tokens. Throws nothing: the schedule has been validated.
TierPlacement place_tokens(const TierSchedule& schedule, const TierRules& rules, int64_t step,
                           int64_t n, const TierPlacement& before);

struct TierCosts {
  double c0 = 0, c1 = 0;  // of a step, and of a token it reads
  double bytes = 0;       // of a token in one layer
  double bandwidth = 1;   // bytes per unit of time
  double recompute = 0;   // of a deleted token
  double replay = 0;      // of a token of the prefix that is run again
};

struct TierStep {
  int64_t phase = 1;
  int64_t fast = 0, slow = 0, deleted = 0;        // tokens, after the step
  int64_t loads = 0, recomputes = 0, stores = 0;  // tokens of a layer, of all layers
  int64_t prefix = 0;
  double time = 0;
};

// The older tokens that every layer read, step by step: trace[step][layer].
using TierTrace = std::vector<std::vector<std::vector<int32_t>>>;

// What each step of the trace does and costs. `prompt` tokens come before the first step; `initial`
// is their placement. Throws Error on a trace that names tokens that do not exist yet.
std::vector<TierStep> simulate_tiers(int64_t prompt, const TierTrace& trace,
                                     const TierSchedule& schedule, const TierRules& rules,
                                     const TierCosts& costs, const TierPlacement& initial = {});
double total_time(std::span<const TierStep> steps);

// The cheapest schedule: p1 the first step that overflows the capacity, alpha what does not fit at the
// end, (beta, p2) of every beta in {0, 1/4, 1/2, 3/4, 1} and p2 in p1..steps the first strict minimum.
// `progress` is told how many of the candidates are done.
TierSchedule search_schedule(int64_t prompt, const TierTrace& trace, const TierRules& rules,
                             const TierCosts& costs, const TierPlacement& initial = {},
                             const std::function<void(int64_t done, int64_t total)>& progress = {});

}  // namespace mneme
