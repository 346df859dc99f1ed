#include "mneme/eval/perplexity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <vector>

#include "mneme/cache/memory_registry.h"
#include "mneme/core/error.h"
#include "mneme/eval/haystack.h"
#include "mneme/models/tiny_model_testing.h"
#include "mneme/runtime/engine.h"

namespace mneme {
namespace {

using ::testing::HasSubstr;
using testing::TinyModel;

MemoryMaker maker(const DecoderModel& model, const char* spec = "full(dtype=f32)",
                  int64_t budget = 0) {
  return [&model, spec, budget] {
    auto memory = MemoryRegistry::builtin().build(spec, model.memory_shape());
    memory->set_budget(budget);
    return memory;
  };
}

// Negative log-likelihoods of text[1..] after text[0..], all logits in one step.
std::vector<double> naive_nll(DecoderModel& model, ThreadPool& pool,
                              const std::vector<int32_t>& text) {
  const auto memory = maker(model)();
  const SequenceStep step{text, memory.get(), Logits::kAll};
  const std::span<const float> logits = model.forward({&step, 1}, pool);
  const auto vocabulary = static_cast<size_t>(model.config().vocabulary);
  std::vector<double> nll;
  for (size_t i = 0; i + 1 < text.size(); ++i) {
    long double sum = 0;
    for (size_t j = 0; j < vocabulary; ++j)
      sum += std::exp(static_cast<long double>(logits[i * vocabulary + j]));
    nll.push_back(static_cast<double>(std::log(sum) -
                                      logits[i * vocabulary + static_cast<size_t>(text[i + 1])]));
  }
  return nll;
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

TEST(Perplexity, OnePassEqualsTheNaiveSum) {
  TinyModel tiny;
  ThreadPool pool(2);
  for (const int64_t length : {2, 63, 100}) {
    const auto text = tiny.tokens(length);
    const auto expected = naive_nll(tiny.model(), pool, text);
    const auto result = perplexity(tiny.model(), pool, maker(tiny.model()), text, {.chunk = 7});
    EXPECT_EQ(result.tokens, length - 1);
    EXPECT_NEAR(result.mean_nll, mean(expected), 1e-9);
    double squares = 0;
    for (const double nll : expected) squares += (nll - mean(expected)) * (nll - mean(expected));
    const auto count = static_cast<double>(expected.size());
    if (length > 2) {
      EXPECT_NEAR(result.standard_error, std::sqrt(squares / (count - 1) / count), 1e-9);
    }
    EXPECT_NEAR(result.perplexity_error(), std::exp(mean(expected)) * result.standard_error, 1e-6);
    EXPECT_EQ(result.logical_bytes, length * tiny.model().memory_shape().f16_bytes_per_token());
    EXPECT_GT(result.resident_bytes, 0);
    EXPECT_GE(result.peak_bytes, result.resident_bytes);
  }
}

TEST(Perplexity, AWindowScoresOnlyWhatTheOneBeforeDidNot) {
  TinyModel tiny;
  ThreadPool pool(2);
  const auto text = tiny.tokens(23);
  // Windows of 10, 4 apart: [0,10) scores 1..9, [4,14) 10..13, [8,18) 14..17, [12,22) 18..21,
  // [16,23) 22.
  std::vector<double> expected;
  const auto take = [&](int64_t first, int64_t last, int64_t score) {
    const auto nll = naive_nll(tiny.model(), pool, {text.begin() + first, text.begin() + last});
    for (int64_t token = score; token < last; ++token)
      expected.push_back(nll[static_cast<size_t>(token - first - 1)]);
  };
  take(0, 10, 1);
  take(4, 14, 10);
  take(8, 18, 14);
  take(12, 22, 18);
  take(16, 23, 22);
  for (const int64_t chunk : {1, 3, 64}) {
    const auto result = perplexity(tiny.model(), pool, maker(tiny.model()), text,
                                   {.window = 10, .stride = 4, .chunk = chunk});
    EXPECT_EQ(result.tokens, 22);
    EXPECT_NEAR(result.mean_nll, mean(expected), 1e-9);
  }
}

TEST(Perplexity, TheBeginTokenStandsBeforeEveryWindow) {
  TinyModel tiny;
  ThreadPool pool(2);
  const auto text = tiny.tokens(11);
  // Windows of begin + 5, 5 apart: every token of the text counts.
  std::vector<double> expected;
  for (const int64_t first : {0, 5, 10}) {
    std::vector<int32_t> window = {7};
    window.insert(window.end(), text.begin() + first,
                  text.begin() + std::min<int64_t>(first + 5, 11));
    for (const double nll : naive_nll(tiny.model(), pool, window)) expected.push_back(nll);
  }
  const auto result = perplexity(tiny.model(), pool, maker(tiny.model()), text,
                                 {.window = 6, .stride = 5, .begin = 7});
  EXPECT_EQ(result.tokens, 11);
  EXPECT_NEAR(result.mean_nll, mean(expected), 1e-9);
}

TEST(Perplexity, AModelThatKnowsNothingIsAsWideAsItsVocabulary) {
  auto tensors = testing::tiny_tensors(7);
  tensors->remove("lm_head.weight");
  tensors->add("lm_head.weight", {50, 64}, std::vector<float>(50 * 64, 0.0f));
  const auto model = load_llama_state_dict(testing::tiny_config(), tensors);
  ThreadPool pool(1);
  const auto result = perplexity(*model, pool, maker(*model), TinyModel().tokens(40));
  EXPECT_NEAR(result.perplexity(), 50, 1e-6);
  EXPECT_NEAR(result.standard_error, 0, 1e-9);
}

TEST(Perplexity, StopsWhenToldAndSaysSo) {
  TinyModel tiny;
  ThreadPool pool(2);
  const auto text = tiny.tokens(40);
  std::vector<int64_t> seen;
  const auto result = perplexity(tiny.model(), pool, maker(tiny.model()), text, {.chunk = 8},
                                 [&](int64_t done, int64_t total) {
                                   EXPECT_EQ(total, 40);
                                   seen.push_back(done);
                                   return done < 16;
                                 });
  EXPECT_FALSE(result.complete);
  EXPECT_EQ(result.tokens, 16);
  EXPECT_THAT(seen, ::testing::ElementsAre(8, 16));
}

TEST(Perplexity, RefusesWhatItCannotDo) {
  TinyModel tiny;
  ThreadPool pool(1);
  const auto text = tiny.tokens(20);
  const auto message = [&](std::span<const int32_t> tokens, const PerplexityOptions& options,
                           const MemoryMaker& make) -> std::string {
    try {
      perplexity(tiny.model(), pool, make, tokens, options);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  const auto full = maker(tiny.model());
  EXPECT_THAT(message({text.data(), 1}, {}, full), HasSubstr("at least 2 tokens is needed, got 1"));
  EXPECT_THAT(message(text, {.window = 1}, full), HasSubstr("at least 2 tokens, got 1"));
  EXPECT_THAT(message(text, {.window = 8, .stride = 8}, full),
              HasSubstr("stride must be 1 to 7 for windows of 8 tokens, got 8"));
  EXPECT_THAT(message(text, {.chunk = 0}, full), HasSubstr("chunk must be positive, got 0"));
  EXPECT_THAT(message(text, {}, maker(tiny.model(), "full", 100)), HasSubstr("budget of 100"));
  EXPECT_THAT(message(tiny.tokens(300), {}, full), HasSubstr("44 tokens longer"));
}

TEST(Perplexity, AWindowOfTheMemoryGoesOnPastTheContext) {
  TinyModel tiny;
  ThreadPool pool(2);
  const auto result = perplexity(
      tiny.model(), pool, maker(tiny.model(), "sliding(window=64,sink=4)"), tiny.tokens(300));
  EXPECT_EQ(result.tokens, 299);
  EXPECT_LT(result.resident_bytes, result.logical_bytes);
}

TEST(Perplexity, EightBitRowsOfARealModelLoseNextToNothing) {
  const char* path = std::getenv("MNEME_MODEL");
  if (path == nullptr || *path == '\0') GTEST_SKIP() << "MNEME_MODEL names no model file";
  const auto engine = Engine::open(path);
  auto tokens = engine->tokenizer().encode(haystack_text(4000, 1));
  tokens.resize(512);
  const auto of = [&](const char* spec) {
    return perplexity(engine->model(), engine->pool(), [&] { return engine->make_memory(spec); },
                      tokens,
                      {.begin = engine->tokenizer().adds_bos() ? engine->tokenizer().bos() : -1});
  };
  const PerplexityResult full = of("full(dtype=f32)");
  const PerplexityResult q8 = of("q8");
  EXPECT_LT(full.perplexity(), 60);  // templates are easy; a broken model is far above
  EXPECT_NEAR(q8.perplexity() / full.perplexity(), 1, 0.005);
}

}  // namespace
}  // namespace mneme
