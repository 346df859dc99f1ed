#include "mneme/interpret/retrieval_heads.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "mneme/cache/memory_registry.h"
#include "mneme/models/tiny_model_testing.h"
#include "mneme/runtime/sampler.h"
#include "tests/support/error_of.h"

namespace mneme {
namespace {

using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;
using testing::TinyModel;

constexpr auto same = [](int64_t row) { return row; };

TEST(RetrievalScore, AHitIsTheProducedTokenInsideTheSpan) {
  RetrievalScore score(1, 2, {5, 6, 7, 6}, {1, 3});
  const std::vector<float> on_1 = {0.1f, 0.6f, 0.2f, 0.1f}, on_3 = {0, 0, 0.1f, 0.9f};
  score.look({0, 0}, on_1, same);
  score.look({0, 1}, on_3, same);
  score.produced(6);  // at 1 and at 3, of which only 1 is in the span
  EXPECT_TRUE(score.hit({0, 0}));
  EXPECT_FALSE(score.hit({0, 1}));
  score.produced(7);
  EXPECT_FALSE(score.hit({0, 0}));
  EXPECT_EQ(score.strongest({0, 1}), 3);
  EXPECT_THAT(score.score().values(), ElementsAre(0.5, 0));
}

TEST(RetrievalScore, RowsAreWhereTheirPositionsSay) {
  RetrievalScore score(1, 1, {5, 6, 7, 6}, {1, 3}, 2);
  const std::vector<float> two = {0.5f, 0.5f};
  // The rows that a window left over.
  score.look({0, 0}, two, [](int64_t row) { return row + 2; });
  score.produced(7);
  EXPECT_TRUE(score.hit({0, 0}));
  EXPECT_EQ(score.strongest({0, 0}), 2);  // of equal weights the lower
  score.look({0, 0}, std::vector<float>{1}, same);
  score.produced(7);
  EXPECT_FALSE(score.hit({0, 0})) << "the second of two looks is of the step before";
}

TEST(RetrievalScore, BadSpansAndHeadsAreRefused) {
  EXPECT_THAT(error_of([] {
                RetrievalScore(1, 1, {1, 2}, {1, 3});
              }),
              HasSubstr("the needle at [1, 3) is not inside a prompt of 2 tokens"));
  EXPECT_THAT(error_of([] { RetrievalScore(1, 1, {1, 2}, {1, 1}); }), HasSubstr("[1, 1)"));
  EXPECT_THAT(error_of([] { RetrievalScore(1, 1, {1}, {}, 0); }), HasSubstr("at least 1, got 0"));
  RetrievalScore score(1, 1, {1, 2}, {});
  EXPECT_THAT(error_of([&] {
                score.look({1, 0}, std::vector<float>{1}, same);
              }),
              HasSubstr("head (1,0)"));
  score.look({0, 0}, std::vector<float>{1, 0}, same);
  score.produced(1);
  EXPECT_EQ(score.score().at({0, 0}), 0) << "no needle, no hits";
}

TEST(UnigramRecall, CountsAreClipped) {
  const std::vector<int32_t> needle = {1, 1, 2, 3};
  EXPECT_DOUBLE_EQ(unigram_recall(std::vector<int32_t>{1, 2, 2, 2}, needle), 0.5);
  EXPECT_DOUBLE_EQ(unigram_recall(std::vector<int32_t>{3, 1, 2, 1, 9}, needle), 1);
  EXPECT_DOUBLE_EQ(unigram_recall({}, needle), 0);
  EXPECT_THAT(error_of([] { unigram_recall({}, {}); }), HasSubstr("no tokens"));
}

// A run answers as greedy decoding under a full memory does, and stops where told to.
TEST(RunRetrieval, AnswersGreedilyAndStops) {
  TinyModel tiny;
  ThreadPool pool(2);
  NeedlePrompt prompt{.tokens = tiny.tokens(90), .span = {20, 30}};
  Session session(tiny.model(), pool,
                  MemoryRegistry::builtin().build("full(dtype=f32)", tiny.model().memory_shape()));
  session.append(prompt.tokens);
  std::vector<int32_t> greedy;
  for (int i = 0; i < 12; ++i) {
    greedy.push_back(argmax(session.logits()));
    session.append({&greedy.back(), 1});
  }
  prompt.needle = {greedy[0], greedy[1], 60};
  RetrievalRun run = run_retrieval(tiny.model(), pool, prompt, {.max_tokens = 12});
  EXPECT_EQ(run.output, greedy);
  EXPECT_DOUBLE_EQ(run.recall, 2.0 / 3);
  EXPECT_TRUE(run.accepted);
  EXPECT_FALSE(
      run_retrieval(tiny.model(), pool, prompt, {.max_tokens = 12, .min_recall = 0.9}).accepted);
  const int32_t last = greedy[5];
  const auto stop = std::ranges::find(greedy, last) - greedy.begin();
  run = run_retrieval(tiny.model(), pool, prompt,
                      {.max_tokens = 12, .ends = [&](int32_t token) { return token == last; }});
  EXPECT_EQ(run.output, std::vector<int32_t>(greedy.begin(), greedy.begin() + stop));
}

TEST(RunRetrieval, BadPromptsAreRefused) {
  TinyModel tiny;
  ThreadPool pool(1);
  NeedlePrompt prompt{.tokens = tiny.tokens(9), .needle = {1}};
  const auto refusal = [&] {
    return error_of([&] { run_retrieval(tiny.model(), pool, prompt, {}); });
  };
  EXPECT_THAT(refusal(), HasSubstr("the needle is not in the prompt"));
  prompt.span = {8, 10};
  EXPECT_THAT(refusal(), HasSubstr("[8, 10) is not inside a prompt of 9"));
  prompt.span = {1, 2};
  prompt.needle.clear();
  EXPECT_THAT(refusal(), HasSubstr("the needle has no tokens"));
  EXPECT_THAT(error_of([&] { find_retrieval_heads(tiny.model(), pool, {}, {}); }),
              HasSubstr("no prompts"));
}

TEST(FindRetrievalHeads, OnlyAcceptedRunsCount) {
  TinyModel tiny;
  ThreadPool pool(2);
  std::vector<NeedlePrompt> prompts;
  for (uint64_t seed = 0; seed < 3; ++seed) {
    NeedlePrompt prompt{.tokens = tiny.tokens(80, seed), .span = {10, 70}};
    prompt.needle =
        run_retrieval(tiny.model(), pool, {.tokens = prompt.tokens, .needle = {1}, .span = {0, 1}},
                      {.max_tokens = 6})
            .output;
    if (seed == 1) prompt.needle = {60};  // outside the vocabulary: never produced
    prompts.push_back(prompt);
  }
  const RetrievalHeads found = find_retrieval_heads(tiny.model(), pool, prompts, {.max_tokens = 6});
  ASSERT_EQ(found.runs.size(), 3u);
  EXPECT_EQ(found.accepted, 2);
  EXPECT_FALSE(found.runs[1].accepted);
  double total = 0;
  for (int64_t i = 0; i < 8; ++i) {
    const HeadId head = found.mean.id(i);
    EXPECT_DOUBLE_EQ(found.mean.at(head),
                     (found.runs[0].score.at(head) + found.runs[2].score.at(head)) / 2);
    total += found.mean.at(head);
  }
  EXPECT_GT(total, 0);
  EXPECT_EQ(found.scores.lists().at({1, 3}).size(), 2u);
  const std::vector<HeadId> best = heads_at_least(found.mean, 1e-9);
  EXPECT_GE(found.mean.at(best.front()), found.mean.at(best.back()));
  const RetrievalHeads stopped =
      find_retrieval_heads(tiny.model(), pool, prompts, {.max_tokens = 6},
                           [](int64_t done, int64_t) { return done < 1; });
  EXPECT_EQ(stopped.runs.size(), 1u);
}

}  // namespace
}  // namespace mneme
