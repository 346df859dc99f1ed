#include "mneme/eval/multikey.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>
#include <set>

#include "mneme/core/error.h"
#include "mneme/eval/tokenizer_testing.h"

namespace mneme {
namespace {

using testing::CharacterTokenizer;
using ::testing::HasSubstr;

TEST(MultikeyCases, AsksForOneOfTheKeys) {
  const CharacterTokenizer tokenizer;
  for (const int64_t keys : {2, 6, 16}) {
    const auto cases =
        multikey_cases(tokenizer, {.lengths = {1300, 3000}, .depths = {0, 0.5, 1}}, keys);
    ASSERT_EQ(cases.size(), 6u);
    for (const RecallCase& one : cases) {
      EXPECT_EQ(one.prompt.size(), static_cast<size_t>(one.length));
      const std::string text = tokenizer.decode(one.prompt, false);
      static const std::regex kKey("the pass key of the ([a-z]+) is ([0-9]{5})\\.");
      std::map<std::string, std::string> found;
      std::set<std::string> different;
      std::vector<std::pair<std::string, int64_t>> places;
      for (std::sregex_iterator at(text.begin(), text.end(), kKey), end; at != end; ++at) {
        found[(*at)[1]] = (*at)[2];
        different.insert((*at)[2]);
        places.emplace_back((*at)[1], at->position());
      }
      EXPECT_EQ(std::ssize(found), keys);
      EXPECT_EQ(std::ssize(different), keys);
      std::smatch question;
      ASSERT_TRUE(std::regex_search(
          text, question,
          std::regex("what is the pass key of the ([a-z]+)\\? the pass key of the ([a-z]+) is$")));
      EXPECT_EQ(question[1], question[2]);
      EXPECT_EQ(found[question[1]], one.answer);
      EXPECT_EQ(tokenizer.decode(one.expected, false), " " + one.answer);
      EXPECT_EQ(one.parts, std::vector<std::string>{one.answer});
      if (*one.depth == 0) {
        EXPECT_EQ(places.front().first, question[1]);
      }
      if (*one.depth == 1) {
        EXPECT_EQ(places.back().first, question[1]);
      }
    }
  }
}

TEST(MultikeyCases, TheSeedDecides) {
  const CharacterTokenizer tokenizer;
  const RecallOptions options{.lengths = {900}, .depths = {0.5}, .seed = 4};
  RecallOptions other = options;
  other.seed = 5;
  EXPECT_EQ(multikey_cases(tokenizer, options)[0].prompt,
            multikey_cases(tokenizer, options)[0].prompt);
  EXPECT_NE(multikey_cases(tokenizer, options)[0].answer,
            multikey_cases(tokenizer, other)[0].answer);
}

TEST(MultikeyCases, RefusesWhatCannotBeBuilt) {
  const CharacterTokenizer tokenizer;
  const auto message = [&](const RecallOptions& options, int64_t keys) -> std::string {
    try {
      multikey_cases(tokenizer, options, keys);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_THAT(message({}, 1), HasSubstr("expected 2 to 16 keys, got 1"));
  EXPECT_THAT(message({}, 17), HasSubstr("expected 2 to 16 keys, got 17"));
  EXPECT_THAT(message({.lengths = {100}}, 6), HasSubstr("multikey: a prompt has at least"));
}

}  // namespace
}  // namespace mneme
