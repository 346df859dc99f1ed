#include "mneme/runtime/tier_study.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "mneme/models/tiny_model_testing.h"
#include "tests/support/error_of.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

class TierStudyOfATinyModel : public ::testing::Test {
 protected:
  TierStudyOptions options(int64_t tokens, int64_t capacity) {
    return {.tokens = tiny_.tokens(tokens),
            .steps = 20,
            .memory = {.ratio = 0.3,
                       .capacity = capacity,
                       .slow_bits = 0,
                       .block = 4,
                       .in_file = false,
                       .folder = ""}};
  }
  testing::TinyModel tiny_;
  ThreadPool pool_{2};
};

// Counts are exact: what the simulator says of the recorded trace is what the memory does. Times are
// those of the machine, and only there.
TEST_F(TierStudyOfATinyModel, TheMemoryDoesWhatTheSimulatorSays) {
  int64_t told = 0;
  const TierStudy study =
      study_tiers(tiny_.model(), pool_, options(180, 88), [&](int64_t done, int64_t total) {
        EXPECT_EQ(done, ++told);
        EXPECT_EQ(total, 80);
        return true;
      });
  EXPECT_EQ(told, 80);
  EXPECT_EQ(study.prompt, 160);
  ASSERT_EQ(study.runs.size(), 3u);
  EXPECT_GT(study.costs.replay, 0);
  EXPECT_GT(study.costs.bandwidth, 0);
  for (const TierRun& run : study.runs) {
    SCOPED_TRACE(run.name);
    EXPECT_TRUE(run.same_answers);
    EXPECT_EQ(run.largest_difference, 0);
    EXPECT_LE(run.fast_tokens, 88);
    ASSERT_EQ(run.predicted.size(), run.measured.size());
    int64_t loads = 0;
    for (size_t j = 0; j < run.predicted.size(); ++j) {
      const TierStep &want = run.predicted[j], &did = run.measured[j];
      EXPECT_EQ(want.phase, did.phase) << j;
      EXPECT_EQ(want.fast, did.fast) << j;
      EXPECT_EQ(want.slow, did.slow) << j;
      EXPECT_EQ(want.deleted, did.deleted) << j;
      EXPECT_EQ(want.loads, did.loads) << j;
      EXPECT_EQ(want.recomputes, did.recomputes) << j;
      EXPECT_EQ(want.stores, did.stores) << j;
      EXPECT_EQ(want.prefix, did.prefix) << j;
      EXPECT_GT(did.time, 0);
      loads += did.loads;
    }
    EXPECT_GT(loads, 0);
  }
  EXPECT_EQ(study.runs[0].schedule.beta, 0);
  EXPECT_GT(study.runs[2].measured.back().recomputes, 0);
  // The best of all candidates is no dearer than the two that it is compared with.
  EXPECT_LE(study.runs[1].predicted_seconds(), study.runs[0].predicted_seconds());
  EXPECT_LE(study.runs[1].predicted_seconds(), study.runs[2].predicted_seconds());
}

TEST_F(TierStudyOfATinyModel, StopsWhereItIsTold) {
  const TierStudy study = study_tiers(tiny_.model(), pool_, options(180, 88),
                                      [](int64_t done, int64_t) { return done < 30; });
  EXPECT_FALSE(study.complete);
  EXPECT_TRUE(study.runs.empty());
}

TEST_F(TierStudyOfATinyModel, RefusesWhatCannotBe) {
  const auto refusal = [&](const TierStudyOptions& options) {
    return error_of([&] { study_tiers(tiny_.model(), pool_, options); });
  };
  EXPECT_THAT(refusal(options(180, 0)), HasSubstr("nothing to schedule"));
  EXPECT_THAT(refusal(options(180, 180)), HasSubstr("holds all 180"));
  EXPECT_THAT(refusal(options(60, 40)), HasSubstr("expected at least 72 more than the 20 steps"));
  TierStudyOptions none = options(180, 88);
  none.steps = 0;
  EXPECT_THAT(refusal(none), HasSubstr("steps must be positive, got 0"));
}

}  // namespace
}  // namespace mneme
