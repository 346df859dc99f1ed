#include "mneme/eval/tier_study_html.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/error_of.h"

namespace mneme {
namespace {

using ::testing::HasSubstr;

TEST(TierStudyHtml, ShowsTotalsAndStepsAndEscapes) {
  TierStudy study{.prompt = 1200, .unbounded_seconds = 1.5, .trace = TierTrace(2), .runs = {}};
  TierRun run{.name = "a <b>", .schedule = {.beta = 0.5, .p2 = 1}, .predicted = {}, .measured = {}};
  run.predicted = {{.time = 0.5}, {.time = 0.25}};
  run.measured = {{.time = 0.5}, {.time = 0.375}};
  study.runs.push_back(run);
  const std::string page = tier_study_html(study, {{"model", "x & y"}});
  EXPECT_THAT(page, HasSubstr("2 tokens decoded after 1,200"));
  EXPECT_THAT(page, HasSubstr("0.75 s"));
  EXPECT_THAT(page, HasSubstr("0.88 s"));
  EXPECT_THAT(page, HasSubstr("a &lt;b&gt;"));
  EXPECT_THAT(page, HasSubstr("x &amp; y"));
  EXPECT_THAT(page, HasSubstr("beta 0.5 from step 1;"));
}

TEST(TierStudyHtml, RefusesAStudyWithoutRuns) {
  EXPECT_THAT(testing::error_of([] { tier_study_html({}, {}); }), HasSubstr("no runs"));
}

}  // namespace
}  // namespace mneme
