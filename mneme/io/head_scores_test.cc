#include "mneme/io/head_scores.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "mneme/io/atomic_file.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_folder.h"

namespace mneme {
namespace {

using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;

std::string refusal(const std::string& text) {
  return error_of([&] { HeadScores::parse(text, "map.json"); });
}

TEST(HeadScores, WhatIsWrittenIsReadBackToTheBit) {
  HeadScores scores;
  HeadTable run(2, 12);
  run.at({1, 11}) = 1.0 / 3;
  scores.add(run);
  run.at({1, 11}) = -2e-17;
  run.at({0, 2}) = 0.25;
  scores.add(run);
  const testing::TemporaryFolder folder;
  write_file_atomically(folder / "map.json", scores.text());
  const HeadScores read = HeadScores::read(folder / "map.json");
  EXPECT_EQ(read.lists(), scores.lists());
  EXPECT_EQ(read.lists().size(), 24u);
  EXPECT_DOUBLE_EQ(read.mean(2, 12).at({0, 2}), 0.125);
  EXPECT_THAT(scores.text(), HasSubstr("\"1-11\":[0.3333333333333333,-2e-17]"));
}

TEST(HeadScores, LinesAreJoinedAndMissingHeadsScoreNothing) {
  const HeadScores scores =
      HeadScores::parse("{\"0-1\": [1, 0]}\n \r\n{\"0-1\": [0.5], \"2-0\": []}", "map.json");
  EXPECT_THAT(scores.lists().at({0, 1}), ElementsAre(1, 0, 0.5));
  const HeadTable mean = scores.mean(3, 2);
  EXPECT_DOUBLE_EQ(mean.at({0, 1}), 0.5);
  EXPECT_EQ(mean.at({2, 0}), 0);
  EXPECT_EQ(mean.at({1, 1}), 0);
  EXPECT_THAT(error_of([&] { scores.mean(2, 2); }), HasSubstr("head (2,0) is not one of 2 layers"));
}

TEST(HeadScores, FaultsNameTheLine) {
  EXPECT_THAT(refusal(""), HasSubstr("map.json: no head scores"));
  EXPECT_THAT(refusal("{\"0-1\": [1]}\n[1]"),
              HasSubstr("map.json, line 2: expected a JSON object"));
  EXPECT_THAT(refusal("{\"0-1\": [1]"), HasSubstr("line 1: expected a JSON object"));
  for (const char* key :
       {"", "3", "3-", "-3", "a-1", "1-2-3", "1--2", "-1-2", "1-2 ", "1-99999999"})
    EXPECT_THAT(refusal(std::string("{\"") + key + "\": [1]}"), HasSubstr("named as \"16-19\""));
  EXPECT_THAT(refusal("{\"0-1\": 1}"), HasSubstr("head 0-1 needs a list"));
  EXPECT_THAT(refusal("{\"0-1\": [null]}"), HasSubstr("not a finite number"));
  EXPECT_THAT(refusal("{\"0-1\": [\"1\"]}"), HasSubstr("not a finite number"));
}

}  // namespace
}  // namespace mneme
