#include "mneme/core/staggered_schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace mneme {
namespace {

// What the schedule promises, counted step by step.
TEST(StaggeredSchedule, EveryQueryMeetsEveryKeyOnceAndOneRowIsReadAStep) {
  for (const int64_t rows : {1, 2, 9, 13, 63, 100}) {
    for (const int64_t slots : {1, 2, 3, 4, 7, 62, 63, 64, 200}) {
      const StaggeredSchedule schedule(rows, slots);
      SCOPED_TRACE(testing::Message() << rows << " rows, " << slots << " slots");
      std::vector<std::set<int64_t>> met(static_cast<size_t>(rows));
      int64_t begun = 0, ended = 0;
      for (int64_t step = 0; step < schedule.steps(); ++step) {
        int64_t begun_now = 0, busy = 0;
        for (int64_t slot = 0; slot < schedule.slots(); ++slot) {
          const int64_t query = schedule.query(step, slot);
          begun_now += schedule.begins(step, slot);
          ended += schedule.ends(step, slot);
          if (query < 0) continue;
          ++busy;
          auto& keys = met[static_cast<size_t>(query)];
          EXPECT_EQ(schedule.begins(step, slot), keys.empty());
          EXPECT_TRUE(keys.insert(schedule.key(step)).second);
          EXPECT_EQ(schedule.ends(step, slot), static_cast<int64_t>(keys.size()) == rows);
        }
        EXPECT_LE(begun_now, 1);
        EXPECT_GE(busy, 1);
        begun += begun_now;
      }
      EXPECT_EQ(begun, rows);
      EXPECT_EQ(ended, rows);
      for (const auto& keys : met) EXPECT_EQ(static_cast<int64_t>(keys.size()), rows);
    }
  }
}

TEST(StaggeredSchedule, CountsOfThePaper) {
  EXPECT_EQ(StaggeredSchedule(129, 4).steps(), 33 * 129);
  EXPECT_EQ(StaggeredSchedule(9, 3).steps(), 29);
  EXPECT_EQ(StaggeredSchedule(0, 3).steps(), 0);
  EXPECT_EQ(StaggeredSchedule(3, 8).slots(), 3);
}

TEST(StaggeredSchedule, RejectsBadCounts) {
  const auto message = [](int64_t rows, int64_t slots) -> std::string {
    try {
      StaggeredSchedule(rows, slots);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_THAT(message(-1, 1), testing::HasSubstr("rows must not be negative, got -1"));
  EXPECT_THAT(message(5, 0), testing::HasSubstr("expected at least one slot, got 0"));
}

}  // namespace
}  // namespace mneme
