#include "mneme/eval/kl_divergence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "mneme/cache/memory_registry.h"
#include "mneme/core/error.h"
#include "mneme/models/tiny_model_testing.h"
#include "mneme/runtime/sampler.h"

namespace mneme {
namespace {

using ::testing::HasSubstr;
using testing::TinyModel;

std::unique_ptr<SequenceMemory> memory_of(const DecoderModel& model, const char* spec) {
  return MemoryRegistry::builtin().build(spec, model.memory_shape());
}

std::vector<std::vector<float>> all_logits(DecoderModel& model, ThreadPool& pool, const char* spec,
                                           const std::vector<int32_t>& tokens) {
  Session session(model, pool, memory_of(model, spec));
  std::vector<std::vector<float>> rows;
  session.append_visiting(tokens, 256, [&](int64_t, std::span<const float> logits) {
    rows.emplace_back(logits.begin(), logits.end());
  });
  return rows;
}

// KL by probabilities in long double.
double naive_kl(const std::vector<float>& p, const std::vector<float>& q) {
  long double p_sum = 0, q_sum = 0, divergence = 0;
  for (const float logit : p) p_sum += std::exp(static_cast<long double>(logit));
  for (const float logit : q) q_sum += std::exp(static_cast<long double>(logit));
  for (size_t i = 0; i < p.size(); ++i) {
    const long double a = std::exp(static_cast<long double>(p[i])) / p_sum;
    const long double b = std::exp(static_cast<long double>(q[i])) / q_sum;
    divergence += a * std::log(a / b);
  }
  return static_cast<double>(divergence);
}

TEST(KlDivergence, EqualsTheNaiveTwinInAnyChunks) {
  TinyModel tiny;
  ThreadPool pool(2);
  const auto tokens = tiny.tokens(63);
  const auto p = all_logits(tiny.model(), pool, "full(dtype=f32)", tokens);
  const auto q = all_logits(tiny.model(), pool, "q4(group=32)", tokens);
  for (const int64_t chunk : {1, 10, 64}) {
    const auto reference = memory_of(tiny.model(), "full(dtype=f32)");
    const auto tested = memory_of(tiny.model(), "q4(group=32)");
    const auto result = kl_divergence(tiny.model(), pool, *reference, *tested, tokens, chunk);
    ASSERT_EQ(result.per_token.size(), tokens.size());
    EXPECT_TRUE(result.complete);
    double agreeing = 0, sum = 0, largest = 0;
    for (size_t i = 0; i < tokens.size(); ++i) {
      const double expected = naive_kl(p[i], q[i]);
      EXPECT_NEAR(result.per_token[i], expected, 1e-9) << "token " << i << " chunk " << chunk;
      sum += expected;
      largest = std::max(largest, expected);
      agreeing += argmax(p[i]) == argmax(q[i]);
    }
    EXPECT_GT(sum, 0);
    EXPECT_NEAR(result.mean(), sum / 63, 1e-9);
    EXPECT_NEAR(result.max(), largest, 1e-9);
    EXPECT_DOUBLE_EQ(result.top1_agreement, agreeing / 63);
    double p_nll = 0, q_nll = 0;
    for (size_t i = 0; i + 1 < tokens.size(); ++i) {
      p_nll -= log_probability(p[i], tokens[i + 1]) / 62;
      q_nll -= log_probability(q[i], tokens[i + 1]) / 62;
    }
    EXPECT_NEAR(result.reference_nll, p_nll, 1e-9);
    EXPECT_NEAR(result.tested_nll, q_nll, 1e-9);
  }
}

TEST(KlDivergence, AMemoryDoesNotDivergeFromItself) {
  TinyModel tiny;
  ThreadPool pool(2);
  const auto reference = memory_of(tiny.model(), "full");
  const auto tested = memory_of(tiny.model(), "sliding(window=200,sink=0)");
  const auto result = kl_divergence(tiny.model(), pool, *reference, *tested, tiny.tokens(100));
  EXPECT_EQ(result.max(), 0);
  EXPECT_EQ(result.top1_agreement, 1);
}

TEST(KlDivergence, QuantilesAreOrderStatistics) {
  KlDivergence result;
  for (int i = 200; i >= 1; --i) result.per_token.push_back(i);
  EXPECT_EQ(result.median(), 100);
  EXPECT_EQ(result.p99(), 198);
  EXPECT_EQ(result.quantile(1), 200);
  EXPECT_EQ(result.max(), 200);
  EXPECT_EQ(result.mean(), 100.5);
  result.per_token = {3};
  EXPECT_EQ(result.p99(), 3);
  EXPECT_THROW(result.quantile(0), Error);
}

TEST(KlDivergence, StopsWhenToldAndRefusesWhatItCannotCompare) {
  TinyModel tiny;
  ThreadPool pool(1);
  const auto tokens = tiny.tokens(40);
  const auto reference = memory_of(tiny.model(), "full");
  const auto tested = memory_of(tiny.model(), "q8(group=32)");
  const auto result = kl_divergence(tiny.model(), pool, *reference, *tested, tokens, 8,
                                    [](int64_t done, int64_t) { return done < 16; });
  EXPECT_FALSE(result.complete);
  EXPECT_EQ(result.per_token.size(), 16u);
  EXPECT_EQ(tested->length(), 16);

  const auto message = [&](SequenceMemory& a, SequenceMemory& b,
                           std::span<const int32_t> text) -> std::string {
    try {
      kl_divergence(tiny.model(), pool, a, b, text);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  const auto empty = memory_of(tiny.model(), "full");
  EXPECT_THAT(message(*reference, *empty, tokens), HasSubstr("hold 16 and 0 tokens"));
  EXPECT_THAT(message(*reference, *tested, {}), HasSubstr("no tokens"));
  tested->set_budget(1);
  EXPECT_THAT(message(*reference, *tested, tokens), HasSubstr("budget of 1 "));
  EXPECT_EQ(reference->length(), 16);
}

}  // namespace
}  // namespace mneme
