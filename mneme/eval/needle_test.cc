#include "mneme/eval/needle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "mneme/cache/memory_registry.h"
#include "mneme/core/error.h"
#include "mneme/eval/tokenizer_testing.h"
#include "mneme/models/tiny_model_testing.h"
#include "mneme/runtime/sampler.h"

namespace mneme {
namespace {

using testing::CharacterTokenizer;
using ::testing::HasSubstr;

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

size_t count_of(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(NeedleCases, EveryLengthWithEveryDepthExactlyAsLongAsAsked) {
  const CharacterTokenizer tokenizer;
  const NeedleOptions options{.lengths = {600, 2000}, .depths = {0, 0.5, 1}};
  const auto cases = needle_cases(tokenizer, options);
  ASSERT_EQ(cases.size(), 6u);
  std::set<std::string> keys;
  for (const NeedleCase& needle : cases) {
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
    EXPECT_NEAR(static_cast<double>(at - intro) / room, needle.depth, 70 / room + 0.05);
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
  const NeedleOptions options{.lengths = {900}, .depths = {1}, .haystack = "It rained again."};
  const auto cases = needle_cases(tokenizer, options);
  ASSERT_EQ(cases[0].prompt.size(), 900u);
  EXPECT_EQ(cases[0].prompt[0], 49);  // beginning of text
  EXPECT_GT(count_of(tokenizer.decode(cases[0].prompt, false), "it rained again."), 30u);
}

TEST(NeedleCases, RefusesWhatCannotBeBuilt) {
  const CharacterTokenizer tokenizer;
  const auto message = [&](const NeedleOptions& options) -> std::string {
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

TEST(ScoreNeedle, EqualsTeacherForcingOverTheWholeText) {
  const auto model = roomy_model();
  ThreadPool pool(2);
  const CharacterTokenizer tokenizer;
  const auto cases = needle_cases(tokenizer, {.lengths = {400}, .depths = {0.5}});
  const auto score =
      score_needle(*model, pool, tokenizer, maker(*model, "full(dtype=f32)"), cases[0], 97);

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
  EXPECT_EQ(score.logical_bytes, 400 * model->memory_shape().f16_bytes_per_token());
}

TEST(ScoreNeedle, TheModelsOwnGreedyAnswerIsExact) {
  const auto model = roomy_model();
  ThreadPool pool(2);
  const CharacterTokenizer tokenizer;
  NeedleCase needle = needle_cases(tokenizer, {.lengths = {400}, .depths = {0.5}})[0];
  Session session(*model, pool, maker(*model, "full")());
  session.append(needle.prompt);
  needle.expected.clear();
  for (int i = 0; i < 5; ++i) {
    needle.expected.push_back(argmax(session.logits()));
    session.append({&needle.expected.back(), 1});
  }
  const auto score = score_needle(*model, pool, tokenizer, maker(*model, "full"), needle);
  EXPECT_TRUE(score.exact);
  EXPECT_EQ(score.greedy, tokenizer.decode(needle.expected, false));
  needle.expected[4] = (needle.expected[4] + 1) % 50;
  EXPECT_FALSE(score_needle(*model, pool, tokenizer, maker(*model, "full"), needle).exact);
}

TEST(ScoreNeedle, StopsWhenToldAndSummarisesWhatIsDone) {
  const auto model = roomy_model();
  ThreadPool pool(1);
  const CharacterTokenizer tokenizer;
  const auto cases = needle_cases(tokenizer, {.lengths = {400}, .depths = {0.5}});
  const auto stopped = score_needle(*model, pool, tokenizer, maker(*model, "full"), cases[0], 50,
                                    [](int64_t done, int64_t) { return done < 100; });
  EXPECT_TRUE(stopped.log_probs.empty());

  const NeedleScore hit{.log_probs = {-1, -2}, .exact = true};
  const NeedleScore miss{.log_probs = {-4, -5}};
  const NeedleSummary summary = summarise({hit, stopped, miss});
  EXPECT_EQ(summary.cases, 2);
  EXPECT_EQ(summary.exact_rate, 0.5);
  EXPECT_EQ(summary.mean_log_prob, -3);
  EXPECT_EQ(summarise({}).cases, 0);
}

}  // namespace
}  // namespace mneme
