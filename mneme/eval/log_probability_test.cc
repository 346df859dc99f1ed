#include "mneme/eval/log_probability.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "mneme/core/error.h"
#include "mneme/core/rng.h"

namespace mneme {
namespace {

using ::testing::HasSubstr;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> random_logits(size_t count, uint64_t seed, double spread) {
  Rng rng(seed);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = static_cast<float>(spread * rng.normal());
  return logits;
}

// Softmax in long double, no maximum subtracted: exact enough where nothing overflows.
std::vector<long double> naive_softmax(const std::vector<float>& logits) {
  std::vector<long double> weights;
  long double sum = 0;
  for (const float logit : logits) {
    weights.push_back(std::exp(static_cast<long double>(logit)));
    sum += weights.back();
  }
  for (long double& weight : weights) weight /= sum;
  return weights;
}

template <typename Call>
std::string message_of(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(LogProbability, EqualsTheLogarithmOfSoftmax) {
  for (const size_t size : {1u, 2u, 63u, 1000u}) {
    const std::vector<float> logits = random_logits(size, size, 5);
    const auto expected = naive_softmax(logits);
    for (size_t token = 0; token < size; token += 7) {
      EXPECT_NEAR(log_probability(logits, static_cast<int32_t>(token)),
                  static_cast<double>(std::log(expected[token])), 1e-12);
    }
  }
}

TEST(LogProbability, HugeLogitsNeitherOverflowNorVanish) {
  const std::vector<float> logits = {10000, 10000, -10000};
  EXPECT_NEAR(log_probability(logits, 1), -std::log(2.0), 1e-12);
  EXPECT_NEAR(log_probability(logits, 2), -20000 - std::log(2.0), 1e-9);
}

TEST(LogProbability, RefusesTokensAndLogitsThatCannotBe) {
  const std::vector<float> logits = {1, 2, 3};
  EXPECT_THAT(message_of([&] { log_probability(logits, 3); }),
              HasSubstr("expected a token of 0 to 2, got 3"));
  EXPECT_THAT(message_of([&] { log_probability(logits, -1); }), HasSubstr("got -1"));
  const std::vector<float> bad = {1, kNan};
  EXPECT_THAT(message_of([&] { log_probability(bad, 0); }), HasSubstr("no finite number"));
}

TEST(KlDivergenceOf, TwoCoinsByHand) {
  const std::vector<float> fair = {0, 0};
  const std::vector<float> loaded = {0, static_cast<float>(std::log(3.0))};  // 1/4, 3/4
  EXPECT_NEAR(kl_divergence_of(fair, loaded), 0.5 * std::log(4.0 / 3.0), 1e-7);
  EXPECT_NEAR(kl_divergence_of(loaded, fair), 0.25 * std::log(0.5) + 0.75 * std::log(1.5), 1e-7);
}

TEST(KlDivergenceOf, EqualsTheSumOverProbabilities) {
  for (const size_t size : {2u, 63u, 1000u}) {
    const std::vector<float> p = random_logits(size, 1, 3);
    const std::vector<float> q = random_logits(size, 2, 3);
    const auto p_weights = naive_softmax(p);
    const auto q_weights = naive_softmax(q);
    long double expected = 0;
    for (size_t i = 0; i < size; ++i)
      expected += p_weights[i] * std::log(p_weights[i] / q_weights[i]);
    EXPECT_NEAR(kl_divergence_of(p, q), static_cast<double>(expected), 1e-11);
  }
}

TEST(KlDivergenceOf, EqualOrShiftedRowsDoNotDiverge) {
  const std::vector<float> p = {0.5f, -3, 2.25f, 100};
  std::vector<float> shifted = p;
  for (float& logit : shifted) logit += 64;  // exact in float32
  EXPECT_EQ(kl_divergence_of(p, p), 0);
  EXPECT_NEAR(kl_divergence_of(p, shifted), 0, 1e-13);
}

TEST(KlDivergenceOf, RefusesRowsThatCannotBeCompared) {
  const std::vector<float> two = {1, 2};
  const std::vector<float> three = {1, 2, 3};
  const std::vector<float> hole = {1, -kInfinity};
  EXPECT_THAT(message_of([&] { kl_divergence_of(two, three); }),
              HasSubstr("rows of 2 and 3 logits"));
  EXPECT_THAT(message_of([&] { kl_divergence_of(two, hole); }), HasSubstr("not a finite number"));
  EXPECT_THAT(message_of([&] { kl_divergence_of({}, {}); }), HasSubstr("no logits"));
}

}  // namespace
}  // namespace mneme
