#include "mneme/interpret/conflict_prompts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <set>

#include "mneme/io/tokenizer_testing.h"
#include "mneme/runtime/engine.h"
#include "tests/support/error_of.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

std::unique_ptr<Tokenizer> small_tokenizer() {
  const testing::SmallBpe bpe = testing::small_bpe();
  return std::make_unique<BpeTokenizer>(bpe.data, bpe.merges, find_pretokenizer("gpt-2"));
}

constexpr Fact kFacts[] = {{"Aba", "Kix"}, {"Ebe", "Lux"}, {"Ibi", "Mox"},
                           {"Obo", "Nux"}, {"Ubu", "Pyx"}, {"Quark", "Rex"}};

TEST(WorldCapitals, AreDifferentCountries) {
  std::set<std::string_view> subjects, answers;
  for (const Fact& fact : world_capitals()) {
    EXPECT_FALSE(fact.subject.empty() || fact.answer.empty());
    subjects.insert(fact.subject);
    answers.insert(fact.answer);
  }
  EXPECT_EQ(subjects.size(), world_capitals().size());
  EXPECT_EQ(answers.size(), world_capitals().size());
}

TEST(ConflictPrompts, AnswersThatShareTheirFirstTokenAreLeftOut) {
  // Every answer begins with the blank, the one token that all of them share.
  EXPECT_TRUE(conflict_prompts(*small_tokenizer(), kFacts, kFacts, "{} is", 1).empty());
}

TEST(ConflictPrompts, BadFactsAndStemsAreRefused) {
  const auto tokenizer = small_tokenizer();
  EXPECT_THAT(error_of([&] { conflict_prompts(*tokenizer, kFacts, kFacts, "The capital is", 1); }),
              HasSubstr("the stem 'The capital is' has no {}"));
  constexpr Fact kStranger[] = {{"Nowhere", "No"}};
  EXPECT_THAT(error_of([&] { conflict_prompts(*tokenizer, kFacts, kStranger, "{} is", 1); }),
              HasSubstr("'Nowhere' is not one of the facts"));
}

TEST(ConflictPrompts, CapitalsOfARealModel) {
  const char* path = std::getenv("MNEME_MODEL");
  if (path == nullptr || *path == '\0') GTEST_SKIP() << "MNEME_MODEL is not set";
  const auto engine = Engine::open(path);
  const Tokenizer& tokenizer = engine->tokenizer();
  const auto facts = world_capitals();
  const std::vector<Fact> known =
      known_facts(engine->model(), engine->pool(), tokenizer, facts, kCapitalStem);
  EXPECT_GE(known.size(), 20u);
  const std::vector<ConflictPrompt> prompts =
      conflict_prompts(tokenizer, facts, known, kCapitalStem, 1);
  EXPECT_GE(prompts.size(), 20u);
  for (const ConflictPrompt& prompt : prompts) {
    const std::string stem = concat("The name of the capital city of ", prompt.fact.subject, " is");
    EXPECT_EQ(tokenizer.decode(prompt.example.clean), concat(stem, " ", prompt.wrong, ". ", stem));
    EXPECT_EQ(prompt.example.clean.size(), prompt.example.corrupt.size());
    const std::string corrupt = tokenizer.decode(prompt.example.corrupt);
    EXPECT_THAT(corrupt, HasSubstr(concat(prompt.other, " is ", prompt.other_wrong, ". The")));
    EXPECT_EQ(corrupt.find(prompt.fact.subject), std::string::npos);
    EXPECT_EQ(corrupt.find(prompt.wrong), std::string::npos);
    EXPECT_TRUE(
        concat(" ", prompt.fact.answer).starts_with(tokenizer.piece(prompt.example.memory_answer)));
    EXPECT_TRUE(
        concat(" ", prompt.wrong).starts_with(tokenizer.piece(prompt.example.context_answer)));
    EXPECT_NE(prompt.example.memory_answer, prompt.example.context_answer);
  }
  const auto three = conflict_prompts(tokenizer, facts, known, kCapitalStem, 1, 3);
  EXPECT_EQ(three.size(), 3 * prompts.size());
  for (size_t i = 0; i + 2 < three.size(); i += 3) {
    EXPECT_EQ(three[i].fact.subject, three[i + 2].fact.subject);
    EXPECT_EQ((std::set{three[i].wrong, three[i + 1].wrong, three[i + 2].wrong}).size(), 3u);
  }
  const auto again = conflict_prompts(tokenizer, facts, known, kCapitalStem, 1);
  EXPECT_EQ(again[0].example.corrupt, prompts[0].example.corrupt);
}

}  // namespace
}  // namespace mneme
