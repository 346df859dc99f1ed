#include "mneme/eval/variable_tracking.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <regex>

#include "mneme/core/error.h"
#include "mneme/eval/tokenizer_testing.h"

namespace mneme {
namespace {

using testing::CharacterTokenizer;
using ::testing::HasSubstr;

TEST(VariableTrackingCases, TheAnswerIsTheChainThatHoldsTheValue) {
  const CharacterTokenizer tokenizer;  // everything in lower case
  for (const ChainOptions chain : {ChainOptions{}, ChainOptions{1, 1}, ChainOptions{3, 4}}) {
    const auto cases =
        variable_tracking_cases(tokenizer, {.lengths = {900, 2500}, .depths = {0, 0.5, 1}}, chain);
    ASSERT_EQ(cases.size(), 6u);
    for (const RecallCase& one : cases) {
      EXPECT_EQ(one.prompt.size(), static_cast<size_t>(one.length));
      const std::string text = tokenizer.decode(one.prompt, false);
      // The interpreter: a variable holds a number or what another holds that stands before it.
      static const std::regex kAssignment("var ([a-z]{3}) # ([a-z0-9]+)\\.");
      std::map<std::string, std::string> holds;
      std::vector<std::string> order;
      for (std::sregex_iterator at(text.begin(), text.end(), kAssignment), end; at != end; ++at) {
        const std::string value = (*at)[2];
        EXPECT_EQ(holds.count((*at)[1]), 0u);
        EXPECT_TRUE(value.size() == 5 || holds.contains(value)) << value;
        holds[(*at)[1]] = value.size() == 5 ? value : holds[value];
        order.push_back((*at)[1]);
      }
      EXPECT_EQ(std::ssize(order), chain.chains * (chain.hops + 1));
      std::smatch question;
      ASSERT_TRUE(std::regex_search(text, question,
                                    std::regex("which variables hold the value ([0-9]{5})\\?")));
      std::string expected;
      int64_t links = 0;
      for (const std::string& name : order) {
        if (holds[name] != question[1]) continue;
        expected += (expected.empty() ? " " : ", var ") + name;
        ++links;
      }
      EXPECT_EQ(links, chain.hops + 1);
      EXPECT_EQ(tokenizer.decode(one.expected, false), expected);
      EXPECT_EQ(std::ssize(one.parts), links);
      for (const std::string& part : one.parts) EXPECT_THAT(one.answer, HasSubstr(part));
    }
  }
}

TEST(VariableTrackingCases, RefusesWhatCannotBeBuilt) {
  const CharacterTokenizer tokenizer;
  const auto message = [&](const RecallOptions& options, const ChainOptions& chain) -> std::string {
    try {
      variable_tracking_cases(tokenizer, options, chain);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_THAT(message({}, {.chains = 0}), HasSubstr("expected 1 to 8 chains, got 0"));
  EXPECT_THAT(message({}, {.hops = 9}), HasSubstr("expected 1 to 8 hops, got 9"));
  EXPECT_THAT(message({.lengths = {100}}, {}), HasSubstr("vartrack: a prompt has at least"));
}

}  // namespace
}  // namespace mneme
