// What one memory did with one task of a study, in the few numbers that a table and a chart show.
// Tests: study_summary_test.cc.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "mneme/eval/study.h"

namespace mneme {

struct StudySummary {
  int64_t cases = 0;                      // with a result
  int64_t missing = 0;                    // without one: refused, or not run
  std::string error;                      // of the first that was refused
  std::optional<RecallSummary> recall;    // of a recall task
  std::optional<ContinuationScore> text;  // of a text task
  int64_t prompt_tokens = 0;              // of all cases
  double seconds = 0;
  double prefill_rate = 0;  // tokens/s over all prompts
  // Of the longest prompts: bytes the largest, speed the mean.
  int64_t resident_bytes = 0, logical_bytes = 0, peak_bytes = 0;
  double decode_rate = 0;

  // The number that decides: mean log-probability a token, perplexity, or mean divergence.
  std::optional<double> quality(StudyTask task) const;
};

// Whether a larger number is the better one.
bool higher_is_better(StudyTask task);

// Over all cases, or those of one length.
StudySummary summarise(const Study& study, StudyTask task, size_t memory,
                       std::optional<int64_t> length = std::nullopt);

// Indices of the points (cost, quality) that no other point beats, the cheapest first: none is at most as
// costly and better, nor less costly and as good. `cost` and `quality` are the less and the more the
// better.
std::vector<size_t> pareto_front(const std::vector<std::pair<double, double>>& points);

}  // namespace mneme
