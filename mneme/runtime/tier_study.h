// What a schedule of three tiers costs on this machine, predicted and measured: the constants of the
// cost model from a few steps, a copy and a replay; the older tokens that every step reads, recorded
// from a run with everything in the fast tier; the cheapest schedule for them; and the same decoding
// once more under several schedules, each against its prediction. (papers/12 sections 3.3 and 5.)
//
//   T_j = c0 + c1 min(n, 2k) + (loads + stores) bytes / bandwidth + prefix replay
//
// Tests: tier_study_test.cc.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "mneme/cache/alisa_memory.h"
#include "mneme/models/decoder.h"
#include "mneme/simulate/tier_schedule.h"

namespace mneme {

struct TierStudyOptions {
  std::vector<int32_t> tokens;  // the text: its last `steps` are decoded, teacher-forced
  int64_t steps = 64;
  AlisaOptions memory;  // of the tiers; its schedule is the one that is compared with the best
};

struct TierRun {
  std::string name;
  TierSchedule schedule;
  std::vector<TierStep> predicted;
  std::vector<TierStep> measured;  // with the times of the clock
  double predicted_seconds() const { return total_time(predicted); }
  double measured_seconds() const { return total_time(measured); }
  int64_t fast_tokens = 0;        // the most a layer held in the fast tier after a step
  bool same_answers = false;      // every logit has the bits of the run without tiers
  double largest_difference = 0;  // of a logit
};

struct TierStudy {
  int64_t prompt = 0;
  TierCosts costs;               // in seconds
  double unbounded_seconds = 0;  // of the steps with everything in the fast tier
  TierTrace trace;
  TierSchedule best;
  std::vector<TierRun> runs;  // slow tier alone; the best; half deleted from the middle on
  bool complete = true;       // false: stopped by `progress`
};

// progress(done, total) in steps of decoding; false stops. Throws Error when the text is not longer
// than the steps, or the fast tier holds all of it and there is nothing to schedule.
TierStudy study_tiers(DecoderModel& model, ThreadPool& pool, const TierStudyOptions& options,
                      const std::function<bool(int64_t done, int64_t total)>& progress = {});

}  // namespace mneme
