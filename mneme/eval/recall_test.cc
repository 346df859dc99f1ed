#include "mneme/eval/recall.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "mneme/cache/memory_registry.h"
#include "mneme/eval/needle.h"
#include "mneme/eval/tokenizer_testing.h"
#include "mneme/models/tiny_model_testing.h"
#include "mneme/runtime/sampler.h"

namespace mneme {
namespace {

using testing::CharacterTokenizer;

// The tiny model with room for a needle's frame of about 250 characters.
std::unique_ptr<DecoderModel> roomy_model() {
  return load_llama_state_dict(
      R"({"vocab_size": 50, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
          "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 1024, "rope_theta": 10000.0, "rms_norm_eps": 1e-5})",
      testing::tiny_tensors(7));
}

MemoryMaker maker(const DecoderModel& model, const char* spec) {
  return [&model, spec] { return MemoryRegistry::builtin().build(spec, model.memory_shape()); };
}

TEST(ScoreRecall, EqualsTeacherForcingOverTheWholeText) {
  const auto model = roomy_model();
  ThreadPool pool(2);
  const CharacterTokenizer tokenizer;
  const auto cases = needle_cases(tokenizer, {.lengths = {400}, .depths = {0.5}});
  const auto score =
      score_recall(*model, pool, tokenizer, maker(*model, "full(dtype=f32)"), cases[0], 97);

  std::vector<int32_t> text = cases[0].prompt;
  text.insert(text.end(), cases[0].expected.begin(), cases[0].expected.end());
  const auto memory = maker(*model, "full(dtype=f32)")();
  const SequenceStep step{text, memory.get(), Logits::kAll};
  const std::span<const float> logits = model->forward({&step, 1}, pool);
  bool exact = true;
  double sum = 0;
  ASSERT_EQ(score.log_probs.size(), cases[0].expected.size());
  for (size_t i = 0; i < cases[0].expected.size(); ++i) {
    const auto row = logits.subspan((399 + i) * 50, 50);
    long double weights = 0;
    for (const float logit : row) weights += std::exp(static_cast<long double>(logit));
    const auto token = static_cast<size_t>(cases[0].expected[i]);
    const auto expected = static_cast<double>(row[token] - std::log(weights));
    EXPECT_NEAR(score.log_probs[i], expected, 1e-9);
    sum += expected;
    exact = exact && argmax(row) == cases[0].expected[i];
  }
  EXPECT_NEAR(score.log_prob(), sum, 1e-9);
  EXPECT_NEAR(score.log_prob_per_token(), sum / 6, 1e-9);
  EXPECT_EQ(score.exact, exact);
  EXPECT_FALSE(score.exact);  // random weights do not know the key
  EXPECT_EQ(score.greedy.size(), 6u);
  EXPECT_EQ(score.found, 0);
  EXPECT_GT(score.decode_rate, 0);
  EXPECT_EQ(score.prompt_tokens, 400);
  EXPECT_EQ(score.logical_bytes, 400 * model->memory_shape().f16_bytes_per_token());
}

TEST(ScoreRecall, TheModelsOwnGreedyAnswerIsExact) {
  const auto model = roomy_model();
  ThreadPool pool(2);
  const CharacterTokenizer tokenizer;
  RecallCase needle = needle_cases(tokenizer, {.lengths = {400}, .depths = {0.5}})[0];
  Session session(*model, pool, maker(*model, "full")());
  session.append(needle.prompt);
  needle.expected.clear();
  for (int i = 0; i < 5; ++i) {
    needle.expected.push_back(argmax(session.logits()));
    session.append({&needle.expected.back(), 1});
  }
  const auto score = score_recall(*model, pool, tokenizer, maker(*model, "full"), needle);
  EXPECT_TRUE(score.exact);
  EXPECT_EQ(score.greedy, tokenizer.decode(needle.expected, false));
  needle.parts = {score.greedy.substr(0, 2), score.greedy.substr(3), "no such part", "neither"};
  EXPECT_EQ(score_recall(*model, pool, tokenizer, maker(*model, "full"), needle).found, 0.5);
  needle.expected[4] = (needle.expected[4] + 1) % 50;
  EXPECT_FALSE(score_recall(*model, pool, tokenizer, maker(*model, "full"), needle).exact);
}

TEST(ScoreRecall, StopsWhenToldAndSummarisesWhatIsDone) {
  const auto model = roomy_model();
  ThreadPool pool(1);
  const CharacterTokenizer tokenizer;
  const auto cases = needle_cases(tokenizer, {.lengths = {400}, .depths = {0.5}});
  const auto stopped = score_recall(*model, pool, tokenizer, maker(*model, "full"), cases[0], 50,
                                    [](int64_t done, int64_t) { return done < 100; });
  EXPECT_TRUE(stopped.log_probs.empty());

  const RecallScore hit{.log_probs = {-1, -2}, .exact = true, .found = 1};
  const RecallScore miss{.log_probs = {-4, -5}};
  const RecallSummary summary = summarise({hit, stopped, miss});
  EXPECT_EQ(summary.cases, 2);
  EXPECT_EQ(summary.exact_rate, 0.5);
  EXPECT_EQ(summary.found_rate, 0.5);
  EXPECT_EQ(summary.mean_log_prob, -3);
  EXPECT_EQ(summarise({}).cases, 0);
}

TEST(ScoreRecall, TheMemoryIsSeenWhenThePromptIsRead) {
  const auto model = roomy_model();
  ThreadPool pool(1);
  const CharacterTokenizer tokenizer;
  const auto cases = needle_cases(tokenizer, {.lengths = {400}, .depths = {0.5}});
  int64_t seen = 0;
  score_recall(*model, pool, tokenizer, maker(*model, "full"), cases[0], 50, {},
               [&](const SequenceMemory& memory) { seen = memory.length(); });
  EXPECT_EQ(seen, 400);
}

}  // namespace
}  // namespace mneme
