#include "mneme/simulate/tier_schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/error_of.h"
#include "tests/support/golden.h"

namespace mneme {
namespace {

using testing::error_of;
using testing::GoldenCase;
using ::testing::HasSubstr;

TierTrace trace_of(const GoldenCase& golden) {
  const std::vector<int64_t> flat = golden.integers("in.trace_flat"),
                             offsets = golden.integers("in.trace_offsets");
  TierTrace trace;
  for (size_t step = 0; step + 1 < offsets.size(); ++step) {
    trace.push_back({{flat.begin() + offsets[step], flat.begin() + offsets[step + 1]}});
  }
  return trace;
}

std::vector<int64_t> column(const std::vector<TierStep>& steps, int64_t TierStep::*field) {
  std::vector<int64_t> values;
  for (const TierStep& step : steps) values.push_back(step.*field);
  return values;
}

void check_schedule(const GoldenCase& golden) {
  const auto& c = golden.config();
  const auto& cost = c["cost"];
  const TierCosts costs{.c0 = cost["c0"],
                        .c1 = cost["c1"],
                        .bytes = cost["bytes"],
                        .bandwidth = cost["bw"],
                        .recompute = cost["rec"]};
  const TierRules rules{.ratio = c["caching_ratio"], .capacity = c["fast_capacity"]};
  const TierTrace trace = trace_of(golden);
  const TierSchedule schedule{c["alpha"], c["beta"], c["p1"], c["p2"]};
  const auto steps = simulate_tiers(c["prompt"], trace, schedule, rules, costs);
  EXPECT_EQ(column(steps, &TierStep::phase), golden.integers("out.phase"));
  EXPECT_EQ(column(steps, &TierStep::fast), golden.integers("out.fast_tokens"));
  EXPECT_EQ(column(steps, &TierStep::slow), golden.integers("out.slow_tokens"));
  EXPECT_EQ(column(steps, &TierStep::deleted), golden.integers("out.deleted_tokens"));
  EXPECT_EQ(column(steps, &TierStep::loads), golden.integers("out.loads"));
  EXPECT_EQ(column(steps, &TierStep::recomputes), golden.integers("out.recomputes"));
  EXPECT_EQ(column(steps, &TierStep::stores), golden.integers("out.stores"));
  const std::vector<double> times = golden.doubles("out.step_time");
  ASSERT_EQ(times.size(), steps.size());
  const double tolerance = golden.rel_tolerance();
  for (size_t j = 0; j < times.size(); ++j)
    EXPECT_NEAR(steps[j].time, times[j], tolerance * times[j]) << "step " << j;
  const double total = golden.doubles("out.total_time").at(0);
  EXPECT_NEAR(total_time(steps), total, tolerance * total);
  if (!golden.name().ends_with("_best")) return;
  const TierSchedule found = search_schedule(c["prompt"], trace, rules, costs);
  EXPECT_DOUBLE_EQ(found.alpha, schedule.alpha);
  EXPECT_EQ(found.beta, schedule.beta);
  EXPECT_EQ(found.p1, schedule.p1);
  EXPECT_EQ(found.p2, schedule.p2);
}

TEST(GoldenAlisa, Schedules) {
  const auto file = testing::GoldenFile::open("12-alisa");
  if (!file) GTEST_SKIP() << "12-alisa.safetensors";
  int checked = 0;
  for (const GoldenCase& golden : file->cases()) {
    if (golden.kind() != "schedule") continue;
    SCOPED_TRACE(golden.name());
    ++checked;
    check_schedule(golden);
  }
  EXPECT_GT(checked, 0);
}

TEST(TierSchedule, HalfOfWhatIsRead) {
  EXPECT_EQ(half_window(40, 0.2), 4);
  EXPECT_EQ(half_window(30, 0.2), 3) << "0.2 is a little more than its float, 3 must not become 2";
  EXPECT_EQ(half_window(1, 0.2), 1);
  EXPECT_EQ(half_window(7, 1), 3);
}

TEST(TierSchedule, BlocksMoveWholeAndTheWindowNever) {
  const TierRules rules{.ratio = 0.5, .capacity = 40, .block = 16, .deletable = 20};
  const TierSchedule schedule{.alpha = 0, .beta = 1, .p1 = 0, .p2 = 0};
  TierPlacement at;
  for (int64_t n = 1; n <= 300; ++n) {
    const TierPlacement next = place_tokens(schedule, rules, n - 1, n, at);
    EXPECT_EQ(next.slow_end % 16, 0);
    EXPECT_GE(next.slow_end, at.slow_end);
    EXPECT_LE(next.slow_end, std::max<int64_t>(0, n - half_window(n, rules.ratio)));
    EXPECT_EQ(next.deleted, std::min<int64_t>(next.slow_end, 16))
        << "20 may be deleted, 16 is whole";
    const bool window_reached = next.slow_end + 16 > n - half_window(n, rules.ratio);
    EXPECT_TRUE(n - next.slow_end <= 40 || window_reached) << n;
    at = next;
  }
  EXPECT_EQ(at.slow_end, 224);
}

// With more than one layer, counts are those of all layers and one prefix serves them.
TEST(TierSchedule, LayersAddUpAndShareAPrefix) {
  const TierRules rules{.ratio = 0.5, .capacity = 4};
  const TierSchedule schedule{.alpha = 0, .beta = 0.5, .p1 = 0, .p2 = 0};
  const TierCosts costs{.replay = 2};
  const TierTrace trace = {{{0}, {1}}, {{0, 1}, {2, 4}}};
  const auto steps = simulate_tiers(9, trace, schedule, rules, costs);
  EXPECT_EQ(steps[0].loads + steps[0].recomputes, 0) << "nothing had moved";
  EXPECT_EQ(steps[0].deleted, 3);
  EXPECT_EQ(steps[0].slow, 3);
  EXPECT_EQ(steps[0].stores, 12);
  EXPECT_EQ(steps[1].recomputes, 3);
  EXPECT_EQ(steps[1].loads, 1);
  EXPECT_EQ(steps[1].prefix, 3);
  EXPECT_EQ(steps[1].time, 6);
}

TEST(TierSchedule, RefusesWhatCannotBe) {
  const auto refusal = [](const TierSchedule& schedule) {
    return error_of([&] { schedule.validate(); });
  };
  EXPECT_THAT(refusal({.alpha = 1.5}), HasSubstr("alpha must be 0 to 1, got 1.5"));
  EXPECT_THAT(refusal({.beta = -1}), HasSubstr("beta must be 0 to 1, got -1"));
  EXPECT_THAT(refusal({.p1 = 5, .p2 = 4}), HasSubstr("p1 must be 0 to p2 = 4, got 5"));
  EXPECT_THAT(error_of([] { search_schedule(4, {}, {.capacity = 4}, {}); }), HasSubstr("no steps"));
  EXPECT_THAT(error_of([] { simulate_tiers(2, {{{3}}}, {}, {.capacity = 4}, {}); }),
              HasSubstr("reads token 3 of 3"));
  EXPECT_THAT(error_of([] { simulate_tiers(2, {}, {}, {.ratio = 0, .capacity = 4}, {}); }),
              HasSubstr("ratio must be above 0"));
}

}  // namespace
}  // namespace mneme
