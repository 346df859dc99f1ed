#include "mneme/eval/comparison.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <set>

#include "mneme/cache/memory_registry.h"
#include "mneme/core/error.h"
#include "mneme/eval/tokenizer_testing.h"
#include "mneme/models/tiny_model_testing.h"
#include "mneme/runtime/sampler.h"

namespace mneme {
namespace {

using testing::CharacterTokenizer;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TinyModel;

class ComparisonTest : public ::testing::Test {
 protected:
  Comparison compare(const ComparisonOptions& options, const ComparisonProgress& progress = {}) {
    return compare_memories(tiny_.model(), pool_, tokenizer_, options, progress);
  }
  ComparisonOptions prompt_options(std::vector<std::string> specs, int64_t tokens = 150) {
    ComparisonOptions options;
    options.specs = std::move(specs);
    options.tokens = tiny_.tokens(tokens);
    options.generate.max_tokens = 6;
    options.tail = 40;
    options.chunk = 32;
    return options;
  }
  std::unique_ptr<SequenceMemory> memory(const char* spec) {
    return MemoryRegistry::builtin().build(spec, tiny_.model().memory_shape());
  }

  TinyModel tiny_;
  ThreadPool pool_{2};
  CharacterTokenizer tokenizer_;
};

TEST_F(ComparisonTest, ARowIsWhatTheMemoryDoesOnItsOwn) {
  const auto options = prompt_options({"q4(group=32)", "full"});
  const Comparison result = compare(options);
  ASSERT_EQ(result.rows.size(), 2u);
  EXPECT_EQ(result.reference, "full(dtype=f16)");
  EXPECT_EQ(result.reference_error, "");
  for (const ComparisonRow& row : result.rows) {
    Session session(tiny_.model(), pool_, memory(row.spec.c_str()));
    const Generation alone = generate(session, tokenizer_, options.tokens, {.max_tokens = 6});
    EXPECT_EQ(row.error, "");
    EXPECT_EQ(row.tokens, alone.tokens);
    EXPECT_EQ(row.text, alone.text);
    EXPECT_EQ(row.prompt_tokens, 150);
    EXPECT_EQ(row.reused_tokens, 0);
    EXPECT_EQ(row.resident_bytes, session.memory().resident_bytes());
    EXPECT_EQ(row.logical_bytes, session.memory().logical_bytes());
    EXPECT_GE(row.peak_bytes, row.resident_bytes);
    EXPECT_GT(row.prefill_rate, 0);
    EXPECT_GT(row.decode_rate, 0);
    ASSERT_EQ(row.speed.size(), 5u);
    for (size_t i = 0; i < 5; ++i) {
      EXPECT_EQ(row.speed[i].context, 30 * static_cast<int64_t>(i + 1));
      EXPECT_GT(row.speed[i].decode_rate, 0);
      EXPECT_GT(row.speed[i].prefill_rate, 0);
    }
  }
}

TEST_F(ComparisonTest, PromptQualityIsDivergenceOverTheTailAndTheReferencesAnswer) {
  const auto options = prompt_options({"full", "q4(group=32)"});
  const Comparison result = compare(options);
  const PromptQuality& full = *result.rows[0].prompt_quality;
  EXPECT_EQ(full.divergence.tokens, 40);
  EXPECT_EQ(full.divergence.mean, 0);
  EXPECT_EQ(full.answer_agreement, 1);
  EXPECT_EQ(full.same_tokens, full.answer_tokens);

  // The naive twin runs both memories from the beginning.
  const auto reference = memory("full");
  const auto tested = memory("q4(group=32)");
  const auto whole = kl_divergence(tiny_.model(), pool_, *reference, *tested, options.tokens, 150);
  double sum = 0;
  for (size_t i = 110; i < 150; ++i) sum += whole.per_token[i];
  const PromptQuality& q4 = *result.rows[1].prompt_quality;
  EXPECT_EQ(q4.divergence.tokens, 40);
  EXPECT_NEAR(q4.divergence.mean, sum / 40, 1e-9);
  EXPECT_GT(q4.divergence.mean, 0);

  const std::vector<int32_t>& answer = result.rows[0].tokens;
  std::vector<int32_t> text = options.tokens;
  text.insert(text.end(), answer.begin(), answer.end());
  const auto again = memory("q4(group=32)");
  const SequenceStep step{text, again.get(), Logits::kAll};
  const std::span<const float> logits = tiny_.model().forward({&step, 1}, pool_);
  double log_prob = 0, agreeing = 0;
  for (size_t i = 0; i < answer.size(); ++i) {
    const auto row = logits.subspan((149 + i) * 50, 50);
    log_prob += log_probability(row, answer[i]);
    agreeing += argmax(row) == answer[i];
  }
  const auto count = static_cast<double>(answer.size());
  EXPECT_EQ(q4.answer_tokens, static_cast<int64_t>(answer.size()));
  EXPECT_NEAR(q4.answer_log_prob, log_prob / count, 1e-9);
  EXPECT_DOUBLE_EQ(q4.answer_agreement, agreeing / count);
}

TEST_F(ComparisonTest, APromptOfOneTokenIsComparedToo) {
  const Comparison result = compare(prompt_options({"full", "q4(group=32)"}, 1));
  for (const ComparisonRow& row : result.rows) {
    EXPECT_EQ(row.error, "");
    EXPECT_EQ(row.prompt_quality->divergence.tokens, 1);
    EXPECT_EQ(row.tokens.size(), 6u);
  }
}

TEST_F(ComparisonTest, OneMemoryThatCannotLeavesTheOthersAlone) {
  auto options = prompt_options({"full", "sliding(window=64,sink=4)"}, 300);  // context 256
  const Comparison result = compare(options);
  ASSERT_EQ(result.rows.size(), 2u);
  EXPECT_THAT(result.rows[0].error, HasSubstr("44 tokens longer than the model's context of 256"));
  EXPECT_THAT(result.reference_error, HasSubstr("44 tokens longer"));
  EXPECT_EQ(result.rows[1].error, "");
  EXPECT_EQ(result.rows[1].tokens.size(), 6u);
  EXPECT_FALSE(result.rows[1].prompt_quality.has_value());

  options = prompt_options({"q8(group=32)", "full(dtype=f32)"});
  options.budget_bytes = memory("q8(group=32)")->predict_bytes(156) * 5 / 4;
  const Comparison budgeted = compare(options);  // the unseen reference has no budget
  EXPECT_EQ(budgeted.rows[0].error, "");
  EXPECT_TRUE(budgeted.rows[0].prompt_quality.has_value());
  EXPECT_THAT(budgeted.rows[1].error, HasSubstr("budget"));
}

TEST_F(ComparisonTest, PerplexityHasTheRatioToTheReference) {
  ComparisonOptions options = prompt_options({"q4(group=32)"}, 100);
  options.task = ComparisonTask::kPerplexity;
  options.divergence = true;
  const Comparison result = compare(options);
  ASSERT_EQ(result.rows.size(), 1u);
  const PerplexityQuality& quality = *result.rows[0].perplexity_quality;
  const auto alone = [&](const char* spec) {
    return perplexity(
               tiny_.model(), pool_, [&] { return memory(spec); }, options.tokens)
        .perplexity();
  };
  EXPECT_EQ(quality.tokens, 99);
  EXPECT_DOUBLE_EQ(quality.perplexity, alone("q4(group=32)"));
  EXPECT_DOUBLE_EQ(*quality.ratio, alone("q4(group=32)") / alone("full"));
  ASSERT_TRUE(quality.divergence.has_value());
  EXPECT_EQ(quality.divergence->tokens, 100);
  EXPECT_GT(quality.divergence->mean, 0);
  EXPECT_GT(result.rows[0].logical_bytes, 0);
}

TEST_F(ComparisonTest, AnInterruptKeepsWhatIsDone) {
  const auto options = prompt_options({"full", "q8(group=32)", "q4(group=32)"});
  std::set<std::string> stages;
  const Comparison result = compare(options, [&](const ComparisonStep& step) {
    stages.insert(step.stage);
    EXPECT_LE(step.done, step.total);
    return step.label != "q8(group=32)" || step.done < 60;
  });
  EXPECT_TRUE(result.interrupted);
  ASSERT_EQ(result.rows.size(), 2u);  // the third never began
  EXPECT_EQ(result.rows[0].error, "");
  EXPECT_EQ(result.rows[0].tokens.size(), 6u);
  EXPECT_EQ(result.rows[1].error, "interrupted");
  EXPECT_EQ(result.rows[1].label, "q8(group=32)");
  EXPECT_THAT(stages, ElementsAre("answer", "prompt"));
}

TEST_F(ComparisonTest, RefusesBadOptionsBeforeAnyWork) {
  const auto message = [&](const std::function<void(ComparisonOptions&)>& change) -> std::string {
    ComparisonOptions options = prompt_options({"full"});
    change(options);
    try {
      compare(options, [](const ComparisonStep&) {
        ADD_FAILURE() << "work was begun";
        return false;
      });
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_THAT(message([](auto& o) { o.specs = {}; }), HasSubstr("at least one memory"));
  EXPECT_THAT(message([](auto& o) { o.specs.push_back("q5"); }), HasSubstr("q5"));
  EXPECT_THAT(message([](auto& o) { o.reference = "fll"; }), HasSubstr("full"));
  EXPECT_THAT(message([](auto& o) { o.tokens = {}; }),
              HasSubstr("at least 1 tokens is needed, got 0"));
  EXPECT_THAT(message([](auto& o) {
                o.task = ComparisonTask::kPerplexity;
                o.tokens = {1};
              }),
              HasSubstr("at least 2 tokens is needed, got 1"));
  EXPECT_THAT(message([](auto& o) { o.chunk = -1; }),
              HasSubstr("chunk must not be negative, got -1"));
  EXPECT_THAT(message([](auto& o) { o.tail = 0; }), HasSubstr("tail must be positive, got 0"));
  EXPECT_THAT(message([](auto& o) { o.budget_bytes = -1; }), HasSubstr("got -1"));
}

}  // namespace
}  // namespace mneme
