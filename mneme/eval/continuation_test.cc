#include "mneme/eval/continuation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "mneme/cache/memory_registry.h"
#include "mneme/core/error.h"
#include "mneme/models/tiny_model_testing.h"

namespace mneme {
namespace {

using ::testing::HasSubstr;

class ContinuationTest : public ::testing::Test {
 protected:
  MemoryMaker maker(const char* spec) {
    return [this, spec] {
      return MemoryRegistry::builtin().build(spec, tiny_.model().memory_shape());
    };
  }
  // ln p(next) written out in long double.
  static double naive_log_prob(std::span<const float> logits, int32_t token) {
    long double sum = 0;
    for (const float logit : logits) sum += std::exp(static_cast<long double>(logit));
    return static_cast<double>(logits[static_cast<size_t>(token)] - std::log(sum));
  }
  testing::TinyModel tiny_;
  ThreadPool pool_{2};
  std::vector<int32_t> tokens_ = tiny_.tokens(150);
};

TEST_F(ContinuationTest, EqualsAPromptAndThenTokenAfterToken) {
  for (const char* spec :
       {"full(dtype=f32)", "q4(group=32)", "snapkv(budget=0.3,window=8)", "h2o(budget=0.3)",
        "cake(budget=0.3,window=8)", "gemfilter(layer=0,keep=30)", "sliding(window=20,sink=2)"}) {
    for (const int64_t scored : {1, 40}) {
      int64_t seen = 0;
      const ContinuationScore score = score_continuation(
          tiny_.model(), pool_, maker(spec), {.tokens = tokens_, .scored = scored}, {},
          [&](const SequenceMemory& memory) { seen = memory.length() + memory.filtered_tokens(); });
      EXPECT_EQ(seen, 150 - scored);
      Session session(tiny_.model(), pool_, maker(spec)());
      session.append(std::span(tokens_).first(static_cast<size_t>(150 - scored)));
      EXPECT_EQ(score.resident_bytes, session.memory().resident_bytes());
      EXPECT_EQ(score.logical_bytes, session.memory().logical_bytes());
      std::vector<double> nll;
      for (int64_t at = 150 - scored; at < 150; ++at) {
        const int32_t token = tokens_[static_cast<size_t>(at)];
        nll.push_back(-naive_log_prob(session.logits(), token));
        session.append({&token, 1});
      }
      double mean = 0, squares = 0;
      const auto count = static_cast<double>(scored);
      for (const double value : nll) mean += value / count;
      for (const double value : nll) squares += (value - mean) * (value - mean);
      EXPECT_TRUE(score.complete);
      EXPECT_EQ(score.tokens, scored);
      EXPECT_EQ(score.prompt_tokens, 150 - scored);
      EXPECT_NEAR(score.mean_nll, mean, 1e-9) << spec;
      EXPECT_NEAR(score.standard_error, scored > 1 ? std::sqrt(squares / (count - 1) / count) : 0,
                  1e-9);
      EXPECT_EQ(score.decode_rate > 0, scored > 1);
    }
  }
}

TEST_F(ContinuationTest, DivergenceEqualsBothRunApart) {
  const ContinuationText text{.tokens = tokens_, .scored = 30};
  Session reference(tiny_.model(), pool_, maker("full(dtype=f32)")());
  reference.append(text.prompt());
  for (const char* spec :
       {"full(dtype=f32)", "q4(group=32)", "snapkv(budget=0.3,window=8)", "tova(budget=0.3)",
        "gemfilter(layer=0,keep=30)", "alisa(ratio=0.4,block=4,capacity=64,beta=1,p2=0)"}) {
    const ContinuationScore score =
        continuation_divergence(tiny_.model(), pool_, reference.memory(), maker(spec), text);
    Session full(tiny_.model(), pool_, maker("full(dtype=f32)")());
    Session tested(tiny_.model(), pool_, maker(spec)());
    full.append(text.prompt());
    tested.append(text.prompt());
    double sum = 0;
    for (const int32_t token : text.tail()) {
      full.append({&token, 1});
      tested.append({&token, 1});
      double divergence = 0;
      for (int32_t other = 0; other < 50; ++other) {
        const double p = naive_log_prob(full.logits(), other);
        divergence += std::exp(p) * (p - naive_log_prob(tested.logits(), other));
      }
      sum += divergence;
    }
    ASSERT_TRUE(score.complete && score.divergence.has_value()) << spec;
    EXPECT_EQ(score.divergence->tokens, 30);
    EXPECT_NEAR(score.divergence->mean, sum / 30, 1e-9) << spec;
    EXPECT_EQ(score.divergence->mean > 1e-12, std::string(spec) != "full(dtype=f32)");
    EXPECT_GT(score.decode_rate, 0);
  }
  EXPECT_EQ(reference.memory().length(), 120);
}

TEST_F(ContinuationTest, StopsWhenToldInPromptAndInTail) {
  for (const int64_t limit : {20, 110}) {
    const auto stop = [&](int64_t done, int64_t total) {
      EXPECT_EQ(total, 150);
      return done < limit;
    };
    const ContinuationText text{.tokens = tokens_, .scored = 50, .chunk = 32};
    EXPECT_FALSE(score_continuation(tiny_.model(), pool_, maker("full"), text, stop).complete);
    Session reference(tiny_.model(), pool_, maker("full")());
    reference.append(text.prompt());
    EXPECT_FALSE(continuation_divergence(tiny_.model(), pool_, reference.memory(),
                                         maker("tova(budget=0.3)"), text, stop)
                     .complete);
  }
}

TEST_F(ContinuationTest, RefusesTextsThatAreTooShort) {
  const auto message = [&](const ContinuationText& text) -> std::string {
    try {
      score_continuation(tiny_.model(), pool_, maker("full"), text);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_THAT(message({.tokens = tokens_, .scored = 150}),
              HasSubstr("a text of more than 150 tokens is needed to score so many, got 150"));
  EXPECT_THAT(message({.tokens = tokens_, .scored = 0}), HasSubstr("above 0, got 0"));
  Session reference(tiny_.model(), pool_, maker("full")());
  reference.append(std::span(tokens_).first(10));
  EXPECT_THROW(continuation_divergence(tiny_.model(), pool_, reference.memory(), maker("full"),
                                       {.tokens = tokens_, .scored = 30}),
               Error);
}

}  // namespace
}  // namespace mneme
