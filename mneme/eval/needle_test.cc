#include "mneme/eval/needle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "mneme/core/error.h"
#include "mneme/eval/tokenizer_testing.h"

namespace mneme {
namespace {

using testing::CharacterTokenizer;
using ::testing::HasSubstr;

size_t count_of(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(NeedleCases, EveryLengthWithEveryDepthExactlyAsLongAsAsked) {
  const CharacterTokenizer tokenizer;
  const RecallOptions options{.lengths = {600, 2000}, .depths = {0, 0.5, 1}};
  const auto cases = needle_cases(tokenizer, options);
  ASSERT_EQ(cases.size(), 6u);
  std::set<std::string> keys;
  for (const RecallCase& needle : cases) {
    EXPECT_EQ(needle.prompt.size(), static_cast<size_t>(needle.length));
    const std::string text = tokenizer.decode(needle.prompt, false);
    EXPECT_EQ(count_of(text, needle.answer), 2u) << text;
    EXPECT_TRUE(text.ends_with("the pass key is")) << text;
    EXPECT_EQ(tokenizer.decode(needle.expected, false), " " + needle.answer);
    // The needle stands near its depth, after a whole sentence.
    const size_t intro = text.find("\n\n") + 2;
    const size_t at = text.find(" the pass key is " + needle.answer);
    ASSERT_NE(at, std::string::npos);
    const double room = static_cast<double>(needle.length) - 250;
    EXPECT_NEAR(static_cast<double>(at - intro) / room, *needle.depth, 70 / room + 0.05);
    if (needle.depth == 0) {
      EXPECT_EQ(at, intro);
    }
    if (needle.depth == 0.5) {
      EXPECT_EQ(text[at - 1], '.');
    }
    keys.insert(needle.answer);
  }
  EXPECT_EQ(keys.size(), 6u);
}

TEST(NeedleCases, TheSeedDecides) {
  const CharacterTokenizer tokenizer;
  const auto a = needle_cases(tokenizer, {.lengths = {700}, .depths = {0.3}, .seed = 4});
  const auto b = needle_cases(tokenizer, {.lengths = {700}, .depths = {0.3}, .seed = 4});
  const auto c = needle_cases(tokenizer, {.lengths = {700}, .depths = {0.3}, .seed = 5});
  EXPECT_EQ(a[0].prompt, b[0].prompt);
  EXPECT_NE(a[0].prompt, c[0].prompt);
  EXPECT_NE(a[0].answer, c[0].answer);
}

TEST(NeedleCases, AUsersTextIsRepeatedUntilItIsLongEnough) {
  const CharacterTokenizer tokenizer(49);
  const RecallOptions options{.lengths = {900}, .depths = {1}, .haystack = "It rained again."};
  const auto cases = needle_cases(tokenizer, options);
  ASSERT_EQ(cases[0].prompt.size(), 900u);
  EXPECT_EQ(cases[0].prompt[0], 49);  // beginning of text
  EXPECT_GT(count_of(tokenizer.decode(cases[0].prompt, false), "it rained again."), 30u);
}

TEST(NeedleCases, RefusesWhatCannotBeBuilt) {
  const CharacterTokenizer tokenizer;
  const auto message = [&](const RecallOptions& options) -> std::string {
    try {
      needle_cases(tokenizer, options);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_THAT(message({.lengths = {20}}), HasSubstr("tokens, got 20"));
  EXPECT_THAT(message({.lengths = {-5}}), HasSubstr("tokens, got -5"));
  EXPECT_THAT(message({.lengths = {}}), HasSubstr("at least one length"));
  EXPECT_THAT(message({.lengths = {900}, .depths = {1.5}}), HasSubstr("0 to 1, got 1.5"));
}

}  // namespace
}  // namespace mneme
