#include "mneme/eval/kept_tokens_html.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "mneme/core/error.h"
#include "mneme/eval/tokenizer_testing.h"

namespace mneme {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Two layers of one head over six tokens in three bins.
KeptTokens example() {
  return {.layers = 2,
          .heads = 1,
          .tokens = 6,
          .bins = 3,
          .of_bin = {2, 2, 1, 0, 0, 2},
          .of_token = {1, 1, 1, 1, 1, 2}};
}

TEST(KeptLevel, IsZeroOnlyForNothingAndEightOnlyForNearlyAll) {
  EXPECT_EQ(kept_level(0), 0);
  EXPECT_EQ(kept_level(0.001), 1);
  EXPECT_EQ(kept_level(0.125), 1);
  EXPECT_EQ(kept_level(0.126), 2);
  EXPECT_EQ(kept_level(0.875), 7);
  EXPECT_EQ(kept_level(1), 8);
}

TEST(KeptMap, DrawsRunsOfEqualBinsInTheirStrength) {
  const std::string svg =
      kept_map_chart({.id = "m1", .title = "a <b>", .description = "what"}, example());
  EXPECT_THAT(svg, HasSubstr("<title id=\"m1-t\">a &lt;b&gt;</title>"));
  const std::regex path(R"re(stroke-opacity="([.0-9]+)" d="([^"]+)")re");
  using Run = std::pair<std::string, std::string>;
  std::vector<Run> found;
  for (std::sregex_iterator at(svg.begin(), svg.end(), path), end; at != end; ++at)
    found.emplace_back((*at)[1], (*at)[2]);
  ASSERT_EQ(found.size(), 2u);
  // 340 pixels from 34 on, rows of 10 from 8 on.
  EXPECT_EQ(found[0], Run("0.500", "M260.7 13.0H374.0"));
  EXPECT_EQ(found[1], Run("1.000", "M34.0 13.0H260.7M260.7 23.0H374.0"));
}

TEST(KeptSummary, NamesTheLayersWithLeastAndMost) {
  EXPECT_EQ(kept_summary(example()),
            "Holds 58.3 % of all rows; layer 1 the least with 33.3 %, layer 0 the most with "
            "83.3 %.");
  KeptTokens even = example();
  even.of_bin = {2, 0, 1, 0, 1, 2};
  EXPECT_EQ(kept_summary(even), "Holds 50.0 % of the rows of every layer.");
}

TEST(KeptText, IsTheTextInRunsOfEqualStrengthEscaped) {
  const testing::CharacterTokenizer tokenizer;
  const auto tokens = tokenizer.encode("ab&cd.");
  EXPECT_EQ(kept_text_html(tokenizer, tokens, example()),
            "<p class=\"kept\"><span class=\"k4\">ab&amp;cd</span><span class=\"k8\">.</span></p>");
  KeptTokens none = example();
  none.of_token = {0, 2, 0, 0, 0, 0};
  EXPECT_THAT(kept_text_html(tokenizer, tokens, none),
              HasSubstr("<span class=\"k0\">a</span><span class=\"k8\">b</span>"));
  EXPECT_THROW(kept_text_html(tokenizer, std::span(tokens).first(5), example()), Error);
  EXPECT_THAT(std::string(kKeptStyle), Not(HasSubstr("url(")));
}

}  // namespace
}  // namespace mneme
