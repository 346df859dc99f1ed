#include "mneme/eval/study_summary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "mneme/core/rng.h"

namespace mneme {
namespace {

using ::testing::ElementsAre;

StudyCell recall_cell(size_t memory, int64_t length, double log_prob, bool exact, double rate,
                      int64_t bytes) {
  return {.task = StudyTask::kNeedle,
          .memory = memory,
          .length = length,
          .result = StudyResult{.seconds = 2,
                                .recall = RecallScore{.length = length,
                                                      .prompt_tokens = length,
                                                      .log_probs = {log_prob, log_prob},
                                                      .exact = exact,
                                                      .found = exact ? 1.0 : 0.0,
                                                      .seconds = 1,
                                                      .decode_rate = rate,
                                                      .resident_bytes = bytes,
                                                      .logical_bytes = 10 * bytes,
                                                      .peak_bytes = 2 * bytes}}};
}

TEST(StudySummary, BytesAndSpeedAreThoseOfTheLongestPrompts) {
  Study study;
  study.cells = {recall_cell(0, 100, -1, true, 50, 10),
                 recall_cell(1, 100, -9, false, 1, 9),
                 recall_cell(0, 200, -3, false, 20, 30),
                 recall_cell(0, 200, -2, true, 40, 25),
                 {.task = StudyTask::kNeedle, .length = 300, .result = StudyResult{.error = "no"}},
                 {.task = StudyTask::kNeedle, .length = 300}};
  const StudySummary all = summarise(study, StudyTask::kNeedle, 0);
  EXPECT_EQ(all.cases, 3);
  EXPECT_EQ(all.missing, 2);
  EXPECT_EQ(all.error, "no");
  EXPECT_DOUBLE_EQ(*all.quality(StudyTask::kNeedle), -2);
  EXPECT_DOUBLE_EQ(all.recall->exact_rate, 2.0 / 3);
  EXPECT_EQ(all.prompt_tokens, 500);
  EXPECT_DOUBLE_EQ(all.prefill_rate, 500.0 / 3);
  EXPECT_EQ(all.resident_bytes, 30);
  EXPECT_EQ(all.logical_bytes, 300);
  EXPECT_EQ(all.peak_bytes, 60);
  EXPECT_DOUBLE_EQ(all.decode_rate, 30);
  EXPECT_DOUBLE_EQ(all.seconds, 6);
  const StudySummary part = summarise(study, StudyTask::kNeedle, 0, 100);
  EXPECT_EQ(part.cases, 1);
  EXPECT_DOUBLE_EQ(*part.quality(StudyTask::kNeedle), -1);
  EXPECT_FALSE(summarise(study, StudyTask::kNeedle, 0, 300).quality(StudyTask::kNeedle));
  EXPECT_EQ(summarise(study, StudyTask::kDivergence, 0).cases, 0);
}

TEST(StudySummary, ATextsQualityIsPerplexityOrDivergence) {
  Study study;
  const ContinuationScore score{.prompt_tokens = 100,
                                .tokens = 10,
                                .mean_nll = 2,
                                .divergence = KlSummary{.mean = 0.5},
                                .prompt_seconds = 4};
  study.cells = {{.task = StudyTask::kPerplexity, .result = StudyResult{.text = score}},
                 {.task = StudyTask::kDivergence, .result = StudyResult{.text = score}}};
  EXPECT_DOUBLE_EQ(*summarise(study, StudyTask::kPerplexity, 0).quality(StudyTask::kPerplexity),
                   std::exp(2.0));
  const StudySummary kl = summarise(study, StudyTask::kDivergence, 0);
  EXPECT_DOUBLE_EQ(*kl.quality(StudyTask::kDivergence), 0.5);
  EXPECT_DOUBLE_EQ(kl.prefill_rate, 25);
  EXPECT_TRUE(higher_is_better(StudyTask::kNeedle));
  EXPECT_FALSE(higher_is_better(StudyTask::kDivergence));
}

TEST(ParetoFront, NoPointOfItIsBeatenAndEveryOtherIs) {
  EXPECT_THAT(pareto_front({{3, 3}, {1, 1}, {2, 0}, {1, 0}, {3, 3}, {4, 2}, {2, 2}}),
              ElementsAre(1, 6, 0));
  EXPECT_TRUE(pareto_front({}).empty());
  Rng rng(1);
  std::vector<std::pair<double, double>> points;
  for (int i = 0; i < 200; ++i)
    points.emplace_back(static_cast<double>(rng.below(30)), static_cast<double>(rng.below(30)));
  const auto front = pareto_front(points);
  const auto beaten = [&](size_t i) {
    for (const auto& [cost, quality] : points) {
      if ((cost <= points[i].first && quality > points[i].second) ||
          (cost < points[i].first && quality >= points[i].second))
        return true;
    }
    return false;
  };
  for (size_t i = 0; i < points.size(); ++i) {
    bool inside = false;
    for (const size_t j : front) inside = inside || points[i] == points[j];
    EXPECT_EQ(inside, !beaten(i)) << i;
  }
}

}  // namespace
}  // namespace mneme
