#include "mneme/interpret/conflict_heads.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "mneme/interpret/prune_study.h"
#include "mneme/models/head_edits.h"
#include "mneme/models/tiny_model_testing.h"
#include "mneme/runtime/sampler.h"
#include "tests/support/error_of.h"

namespace mneme {
namespace {

using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;
using testing::TinyModel;

class ConflictHeads : public ::testing::Test {
 protected:
  ConflictHeads() {
    for (uint64_t seed = 0; seed < 4; ++seed) {
      ConflictExample example{.clean = tiny.tokens(30, seed),
                              .corrupt = tiny.tokens(30, seed + 50)};
      const auto logits = record_last_position(tiny.model(), pool, example.clean).logits;
      example.memory_answer = argmax(logits);
      example.context_answer = (example.memory_answer + 7) % 50;
      examples.push_back(example);
    }
  }
  std::string refusal() {
    return error_of([&] { rank_conflict_heads(tiny.model(), pool, examples); });
  }

  TinyModel tiny;
  ThreadPool pool{2};
  std::vector<ConflictExample> examples;
};

TEST_F(ConflictHeads, TheMeanIsThatOfTheExamples) {
  const ConflictRanking ranking = rank_conflict_heads(tiny.model(), pool, examples);
  const HeadTable mean = ranking.scores.mean(2, 4);
  for (int64_t i = 0; i < 8; ++i) {
    EXPECT_NEAR(ranking.importance.at(mean.id(i)), mean.at(mean.id(i)), 1e-12);
    EXPECT_NE(mean.at(mean.id(i)), 0);
  }
  const ConflictRanking first = rank_conflict_heads(
      tiny.model(), pool, examples, PatchKind::kDirectPath, [](int64_t, int64_t) { return false; });
  EXPECT_EQ(first.clean_difference.size(), 1u);
  EXPECT_EQ(first.clean_difference[0], ranking.clean_difference[0]);
  EXPECT_EQ(first.importance.at({1, 2}), ranking.scores.lists().at({1, 2})[0]);
  const ConflictRanking total =
      rank_conflict_heads(tiny.model(), pool, examples, PatchKind::kTotalEffect);
  EXPECT_NE(total.importance.at({0, 0}), ranking.importance.at({0, 0}));
  EXPECT_EQ(total.importance.at({1, 0}), ranking.importance.at({1, 0}));
}

TEST_F(ConflictHeads, SidesAreWhatTheySayAndNoMore) {
  ConflictRanking ranking{.importance = {4, 2}, .memory_drop = {4, 2}, .context_drop = {4, 2}};
  const double importance[] = {0.5, -0.1, 2, 0, -3, 0.5, -0.1, 1};
  std::ranges::copy(importance, ranking.importance.values().begin());
  EXPECT_THAT(conflict_heads(ranking, ConflictSide::kMemory, {.count = 3}),
              ElementsAre(HeadId{1, 0}, HeadId{3, 1}, HeadId{0, 0}));
  EXPECT_THAT(conflict_heads(ranking, ConflictSide::kContext, {.count = 8}),
              ElementsAre(HeadId{2, 0}, HeadId{0, 1}, HeadId{3, 0}))
      << "only heads below zero";
  EXPECT_THAT(conflict_heads(ranking, ConflictSide::kMemory, {.count = 8, .upper_half = true}),
              ElementsAre(HeadId{3, 1}, HeadId{2, 1}));
  ranking.memory_drop.at({1, 0}) = 0.2;
  ranking.context_drop.at({1, 0}) = 0.1;  // raises both answers
  ranking.memory_drop.at({2, 1}) = 0.2;
  ranking.context_drop.at({2, 1}) = -0.1;
  ranking.memory_drop.at({2, 0}) = -0.2;
  ranking.context_drop.at({2, 0}) = 0.1;
  EXPECT_THAT(
      conflict_heads(ranking, ConflictSide::kMemory, {.count = 8, .opposite_effects = true}),
      ElementsAre(HeadId{2, 1}));
  EXPECT_THAT(
      conflict_heads(ranking, ConflictSide::kContext, {.count = 8, .opposite_effects = true}),
      ElementsAre(HeadId{2, 0}));
  EXPECT_THAT(error_of([&] { conflict_heads(ranking, ConflictSide::kMemory, {.count = 9}); }),
              HasSubstr("0 to 8 heads, got 9"));
}

TEST_F(ConflictHeads, OutcomesCountFirstTokens) {
  examples[0].context_answer = examples[0].memory_answer;
  examples[0].memory_answer = (examples[0].context_answer + 1) % 50;
  examples[1].memory_answer = (examples[1].context_answer + 1) % 50;
  const ConflictOutcome outcome = conflict_outcome(tiny.model(), pool, examples);
  EXPECT_DOUBLE_EQ(outcome.memory_rate, 0.5);
  EXPECT_DOUBLE_EQ(outcome.context_rate, 0.25);
  double mean = 0;
  for (const ConflictExample& example : examples) {
    const auto logits = record_last_position(tiny.model(), pool, example.clean).logits;
    mean += (double{logits[static_cast<size_t>(example.memory_answer)]} -
             double{logits[static_cast<size_t>(example.context_answer)]}) /
            4;
  }
  EXPECT_NEAR(outcome.mean_difference, mean, 1e-12);
}

TEST_F(ConflictHeads, BadExamplesAreRefused) {
  const std::vector<ConflictExample> good = examples;
  examples[2].corrupt.pop_back();
  EXPECT_THAT(refusal(), HasSubstr("example 2 must be of one length, got 30 and 29 tokens"));
  examples = good;
  examples[1].memory_answer = 50;
  EXPECT_THAT(refusal(), HasSubstr("answer 50 of example 1 is not one of 50 tokens"));
  examples = good;
  examples[3].context_answer = examples[3].memory_answer;
  EXPECT_THAT(refusal(), HasSubstr("both answers of example 3"));
  examples.clear();
  EXPECT_THAT(refusal(), HasSubstr("no examples"));
}

TEST_F(ConflictHeads, APruningStudyMeasuresWhatItPrunes) {
  const ConflictRanking ranking = rank_conflict_heads(tiny.model(), pool, examples);
  int64_t asked = 0;
  PruneOptions options{.counts = {1, 2}, .draws = 1, .perplexity = [&] {
                         return static_cast<double>(100 - asked++);
                       }};
  const PruneStudy study = study_pruning(tiny.model(), pool, examples, ranking, options);
  ASSERT_EQ(study.rows.size(), 6u);
  EXPECT_FALSE(study.interrupted);
  EXPECT_EQ(study.unpruned.perplexity, 100);
  EXPECT_DOUBLE_EQ(study.unpruned.outcome.memory_rate, 1);
  for (size_t i = 0; i < study.rows.size(); ++i) {
    const PruneRow& row = study.rows[i];
    EXPECT_EQ(row.perplexity, 99 - static_cast<double>(i));
    HeadEdits edits(tiny.model().config());
    edits.prune(row.heads);
    const ScopedHeadHooks hooks(tiny.model(), &edits);
    EXPECT_EQ(conflict_outcome(tiny.model(), pool, examples).mean_difference,
              row.outcome.mean_difference);
    EXPECT_NE(row.outcome.mean_difference, study.unpruned.outcome.mean_difference);
    if (!row.side) {
      for (const HeadId& head : row.heads) {
        EXPECT_EQ(head.layer, 1);
        for (const PruneRow& other : study.rows)
          EXPECT_TRUE(!other.side || !std::ranges::count(other.heads, head));
      }
    }
  }
  options.perplexity = {};
  const PruneStudy stopped = study_pruning(tiny.model(), pool, examples, ranking, options,
                                           [](int64_t done, int64_t) { return done < 3; });
  EXPECT_EQ(stopped.rows.size(), 2u);
  EXPECT_TRUE(stopped.interrupted);
}

TEST(BestRow, TheRateThenPerplexityThenFewerHeads) {
  PruneStudy study;
  const auto add = [&](int64_t count, double context, double perplexity) {
    study.rows.push_back({.side = ConflictSide::kMemory,
                          .count = count,
                          .outcome = {.context_rate = context},
                          .perplexity = perplexity});
  };
  add(1, 0.5, 9);
  add(3, 0.8, 12);
  add(5, 0.8, 11);
  add(7, 0.8, 11);
  EXPECT_EQ(best_row(study, ConflictSide::kMemory)->count, 5);
  EXPECT_EQ(best_row(study, ConflictSide::kContext), nullptr);
}

}  // namespace
}  // namespace mneme
