#include "mneme/eval/aggregation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "mneme/core/error.h"
#include "mneme/eval/tokenizer_testing.h"

namespace mneme {
namespace {

using testing::CharacterTokenizer;
using ::testing::HasSubstr;

TEST(AggregationCases, TheAnswerIsTheThreeCommonestWordsInOrder) {
  const CharacterTokenizer tokenizer(49);
  const auto cases = aggregation_cases(tokenizer, {.lengths = {600, 1000, 4000}});
  ASSERT_EQ(cases.size(), 3u);
  for (const RecallCase& one : cases) {
    EXPECT_FALSE(one.depth.has_value());
    const auto size = std::ssize(one.prompt);
    EXPECT_LE(size, one.length);
    EXPECT_GT(size, one.length - 12);  // a word, its comma and blank are at most 9 letters
    EXPECT_EQ(one.prompt[0], 49);
    const std::string text = tokenizer.decode(one.prompt, false);
    const size_t begin = text.find("words: ") + 7;
    const std::string list = text.substr(begin, text.find('.', begin) - begin) + ", ";
    std::map<std::string, int64_t> counts;
    for (size_t at = 0; at < list.size();) {
      const size_t comma = list.find(", ", at);
      ++counts[list.substr(at, comma - at)];
      at = comma + 2;
    }
    std::vector<std::pair<int64_t, std::string>> order;
    for (const auto& [word, count] : counts) order.emplace_back(-count, word);
    std::ranges::sort(order);
    EXPECT_EQ(one.answer, order[0].second + ", " + order[1].second + ", " + order[2].second);
    EXPECT_LT(order[0].first, order[1].first);
    EXPECT_LT(order[1].first, order[2].first);
    EXPECT_LT(order[2].first, order[3].first);
    EXPECT_EQ(tokenizer.decode(one.expected, false), " " + one.answer);
    EXPECT_EQ(one.parts.size(), 3u);
  }
  EXPECT_NE(cases[1].answer, cases[2].answer);
}

TEST(AggregationCases, RefusesAPromptWithoutRoomForAList) {
  try {
    aggregation_cases(CharacterTokenizer(), {.lengths = {200}});
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("aggregate: a prompt has at least"));
    EXPECT_THAT(error.what(), HasSubstr("got 200"));
  }
}

}  // namespace
}  // namespace mneme
