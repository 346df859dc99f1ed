#include "mneme/interpret/mask_study.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "mneme/cache/memory_registry.h"
#include "mneme/models/head_edits.h"
#include "mneme/models/tiny_model_testing.h"
#include "mneme/runtime/sampler.h"
#include "tests/support/error_of.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::TinyModel;

class MaskStudyTest : public ::testing::TestWithParam<HeadMask> {
 protected:
  MaskStudyTest() : ranking(2, 4) {
    for (uint64_t seed = 1; seed < 4; ++seed) {
      NeedlePrompt prompt{.tokens = tiny.tokens(70, seed), .span = {10, 20}};
      prompt.needle = answer(prompt, {}, HeadMask::kZero);
      prompts.push_back(prompt);
    }
    for (int64_t i = 0; i < 8; ++i) ranking.at(ranking.id(i)) = static_cast<double>(8 - i);
  }

  // The definition: one run from the prompt's first token on.
  std::vector<int32_t> answer(const NeedlePrompt& prompt, const std::vector<HeadId>& heads,
                              HeadMask mode) {
    HeadEdits edits(tiny.model().config());
    if (mode == HeadMask::kZero) {
      edits.prune(heads);
    } else {
      edits.make_uniform(heads, mode == HeadMask::kUniformAll ? 0 : std::ssize(prompt.tokens) - 1);
    }
    const ScopedHeadHooks hooks(tiny.model(), &edits);
    Session session(
        tiny.model(), pool,
        MemoryRegistry::builtin().build("full(dtype=f32)", tiny.model().memory_shape()));
    session.append(prompt.tokens);
    std::vector<int32_t> output;
    while (std::ssize(output) < kTokens) {
      output.push_back(argmax(session.logits()));
      session.append({&output.back(), 1});
    }
    return output;
  }

  static constexpr int64_t kTokens = 9;
  TinyModel tiny;
  ThreadPool pool{2};
  std::vector<NeedlePrompt> prompts;
  HeadTable ranking;
};

INSTANTIATE_TEST_SUITE_P(Modes, MaskStudyTest,
                         ::testing::Values(HeadMask::kUniformDecode, HeadMask::kUniformAll,
                                           HeadMask::kZero));

TEST_P(MaskStudyTest, IsTheRecallOfMaskedRuns) {
  const MaskOptions options{.mode = GetParam(),
                            .counts = {1, 3},
                            .draws = 2,
                            .spared = 4,
                            .retrieval = {.max_tokens = kTokens}};
  const MaskStudy study = study_masks(tiny.model(), pool, prompts, ranking, options);
  EXPECT_EQ(study.prompts, 3);
  EXPECT_DOUBLE_EQ(study.unmasked_recall, 1);
  ASSERT_EQ(study.rows.size(), 6u);
  double lowest = 1;
  for (const MaskRow& row : study.rows) {
    double recall = 0;
    for (const NeedlePrompt& prompt : prompts)
      recall += unigram_recall(answer(prompt, row.heads, GetParam()), prompt.needle) / 3;
    EXPECT_NEAR(row.recall, recall, 1e-12);
    lowest = std::min(lowest, recall);
    for (const HeadId& head : row.heads) {
      EXPECT_EQ(head.layer, row.random ? 1 : 0) << "random heads are none of the best four";
    }
  }
  EXPECT_LT(lowest, 1) << "no mask did anything";
  EXPECT_EQ(study.rows[3].heads.size(), 3u);
  EXPECT_FALSE(study.rows[3].random);
  EXPECT_EQ(tiny.model().head_hooks(), nullptr);
}

TEST_F(MaskStudyTest, StopsAndRefuses) {
  const auto study = [&](const HeadTable& table, MaskOptions options) {
    options.retrieval.max_tokens = 2;
    return study_masks(tiny.model(), pool, prompts, table, options,
                       [](int64_t done, int64_t) { return done < 2; });
  };
  EXPECT_EQ(study(ranking, {.counts = {1}}).prompts, 2);
  EXPECT_THAT(error_of([&] { study(ranking, {.counts = {9}}); }), HasSubstr("1 to 8 heads, got 9"));
  EXPECT_THAT(error_of([&] { study(ranking, {.counts = {5}}); }), HasSubstr("behind the first 5"));
  EXPECT_THAT(error_of([&] { study(HeadTable(4, 2), {}); }),
              HasSubstr("4 x 2 heads for a model of 2 x 4"));
  prompts.clear();
  EXPECT_THAT(error_of([&] { study(ranking, {}); }), HasSubstr("no prompts"));
}

}  // namespace
}  // namespace mneme
