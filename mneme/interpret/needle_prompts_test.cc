#include "mneme/interpret/needle_prompts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "mneme/io/tokenizer_testing.h"
#include "tests/support/error_of.h"

namespace mneme {
namespace {

using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;

const std::string kHay =
    "The tower stood alone. Nobody came. Rain fell on the low hills all night.";

std::unique_ptr<Tokenizer> small_tokenizer() {
  const testing::SmallBpe bpe = testing::small_bpe();
  return std::make_unique<BpeTokenizer>(bpe.data, bpe.merges, find_pretokenizer("gpt-2"));
}

TEST(NeedlePrompts, NeedlesOfOneSeedDifferAndAListGoesOn) {
  const std::vector<Needle> all = treasure_needles(kMostNeedles, 5);
  std::set<std::string> places, answers;
  for (const Needle& needle : all) {
    places.insert(needle.place);
    answers.insert(needle.answer);
    EXPECT_THAT(needle.prefix, HasSubstr("The hidden treasure of " + needle.place + " is"));
    EXPECT_EQ(needle.answer.front(), ' ');
  }
  EXPECT_EQ(std::ssize(places), kMostNeedles);
  EXPECT_EQ(std::ssize(answers), kMostNeedles);
  const std::vector<Needle> part = treasure_needles(4, 5, 10);
  for (size_t i = 0; i < part.size(); ++i) {
    EXPECT_EQ(part[i].place, all[10 + i].place);
    EXPECT_EQ(part[i].answer, all[10 + i].answer);
  }
  EXPECT_NE(treasure_needles(1, 6)[0].answer, all[0].answer);
  EXPECT_THAT(error_of([] { treasure_needles(7, 1, 90); }),
              HasSubstr("1 to 6 behind the first 90"));
}

TEST(NeedlePrompts, ThePromptHoldsTheNeedleWhereItSays) {
  const auto tokenizer = small_tokenizer();
  const std::vector<Needle> needles = treasure_needles(3, 1);
  const std::vector<NeedlePrompt> prompts =
      needle_prompts(*tokenizer, needles, kHay,
                     {.context_lengths = {300, 400}, .depths = {0, 50, 100}, .buffer = 40});
  ASSERT_EQ(prompts.size(), 18u);
  for (size_t i = 0; i < prompts.size(); ++i) {
    const NeedlePrompt& prompt = prompts[i];
    const Needle& needle = needles[i / 6];
    const std::string text = tokenizer->decode(prompt.tokens);
    EXPECT_THAT(text, ::testing::EndsWith("Answer: " + needle.prefix));
    const std::vector<int32_t> found(prompt.tokens.begin() + prompt.span.first,
                                     prompt.tokens.begin() + prompt.span.last);
    EXPECT_EQ(tokenizer->decode(found), needle.answer);
    EXPECT_EQ(tokenizer->decode(prompt.needle), needle.answer);
    // Once, behind a sentence's end.
    const size_t at = text.find(" " + needle.prefix + needle.answer + ".");
    ASSERT_NE(at, std::string::npos);
    EXPECT_TRUE(at == 0 || text[at - 1] == '.' || prompt.depth == 100) << text;
    EXPECT_EQ(at == 0, prompt.depth == 0);
    // Context and needle fill what the buffer leaves.
    const auto question = tokenizer->encode(text.substr(text.find("\n\nBased")));
    EXPECT_EQ(std::ssize(prompt.tokens) - std::ssize(question), prompt.context_length - 40);
  }
}

TEST(NeedlePrompts, TheFirstWindowWithEnoughOfTheNeedleCounts) {
  const std::vector<int32_t> needle = {1, 2, 2, 3};
  EXPECT_EQ(find_needle(std::vector<int32_t>{9, 3, 2, 1, 9, 1, 2, 2, 3}, needle),
            (TokenSpan{0, 4}));
  EXPECT_EQ(find_needle(std::vector<int32_t>{1, 2, 9, 9, 3}, needle), TokenSpan{});
  EXPECT_FALSE(TokenSpan{}.found());
  EXPECT_THAT(error_of([&] { find_needle(needle, {}); }), HasSubstr("no tokens to look for"));
  EXPECT_THAT(error_of([&] { find_needle(std::span(needle).first(3), needle); }),
              HasSubstr("4 tokens do not fit a prompt of 3"));
}

TEST(NeedlePrompts, BadOptionsAreRefused) {
  const auto tokenizer = small_tokenizer();
  const std::vector<Needle> needles = treasure_needles(1, 1);
  const auto refusal = [&](const NeedlePromptOptions& options, const std::string& hay = kHay) {
    return error_of([&] { needle_prompts(*tokenizer, needles, hay, options); });
  };
  EXPECT_THAT(refusal({.depths = {101}}), HasSubstr("0 to 100 percent, got 101"));
  EXPECT_THAT(refusal({.context_lengths = {210}}),
              HasSubstr("a context of 210 tokens less a buffer"));
  EXPECT_THAT(refusal({.depths = {}}), HasSubstr("at least one needle, length and depth"));
  EXPECT_THAT(refusal({}, ""), HasSubstr("no text to hide in"));
}

TEST(NeedlePrompts, PeriodsAreTokensThatEndInOne) {
  const auto tokenizer = small_tokenizer();
  EXPECT_THAT(period_tokens(*tokenizer), ElementsAre(int32_t{'.'}));
}

}  // namespace
}  // namespace mneme
