#include "mneme/runtime/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <map>

#include "mneme/core/error.h"

namespace mneme {
namespace {

using ::testing::HasSubstr;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::map<int32_t, double> frequencies(const SamplerOptions& options,
                                      const std::vector<float>& logits, int draws = 20000) {
  Sampler sampler(options);
  std::map<int32_t, double> counts;
  for (int i = 0; i < draws; ++i) counts[sampler.sample(logits, {})] += 1.0 / draws;
  return counts;
}

SamplerOptions open_options() {
  return {.temperature = 1, .top_k = 0, .top_p = 1, .min_p = 0, .seed = 5};
}

TEST(Sampler, GreedyTakesTheLargestAndTheLowerIdOfEquals) {
  Sampler sampler({});
  EXPECT_EQ(sampler.sample(std::vector<float>{1, 3, 3, 2}, {}), 1);
  EXPECT_EQ(sampler.sample(std::vector<float>{kNan, -kInfinity, -5}, {}), 2);
}

TEST(Sampler, DrawsInProportion) {
  const std::vector<float> logits = {std::log(1.0f), std::log(2.0f), std::log(5.0f), -kInfinity};
  const auto counts = frequencies(open_options(), logits);
  EXPECT_NEAR(counts.at(0), 0.125, 0.01);
  EXPECT_NEAR(counts.at(1), 0.25, 0.012);
  EXPECT_NEAR(counts.at(2), 0.625, 0.012);
  EXPECT_FALSE(counts.contains(3));
}

TEST(Sampler, TemperatureSharpens) {
  SamplerOptions options = open_options();
  options.temperature = 0.5;
  const auto counts = frequencies(options, {std::log(1.0f), std::log(3.0f)});
  EXPECT_NEAR(counts.at(1), 0.9, 0.01);
}

TEST(Sampler, FiltersKeepWhatTheySay) {
  const std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.15f),
                                     std::log(0.05f)};
  SamplerOptions options = open_options();
  options.top_k = 2;
  EXPECT_EQ(frequencies(options, logits).size(), 2u);
  options = open_options();
  options.top_p = 0.75;
  EXPECT_EQ(frequencies(options, logits).size(), 2u);
  options = open_options();
  options.min_p = 0.2;
  EXPECT_EQ(frequencies(options, logits).size(), 3u);
  options = open_options();
  options.top_p = 1e-9;
  EXPECT_EQ(frequencies(options, logits).size(), 1u);
}

TEST(Sampler, TheSameSeedDrawsTheSame) {
  const std::vector<float> logits = {0, 0.1f, 0.2f, 0.3f};
  Sampler a(open_options());
  Sampler b(open_options());
  SamplerOptions other = open_options();
  other.seed = 6;
  Sampler c(other);
  int different = 0;
  for (int i = 0; i < 200; ++i) {
    const int32_t token = a.sample(logits, {});
    EXPECT_EQ(token, b.sample(logits, {}));
    different += token != c.sample(logits, {});
  }
  EXPECT_GT(different, 50);
}

TEST(Sampler, RepetitionPenaltyActsOnRecentTokensOfEitherSign) {
  SamplerOptions options;
  options.repetition_penalty = 2;
  options.penalty_window = 2;
  Sampler sampler(options);
  const std::vector<float> positive = {3, 2, 0};
  EXPECT_EQ(sampler.sample(positive, std::vector<int32_t>{0, 0}), 1);
  EXPECT_EQ(sampler.sample(positive, std::vector<int32_t>{0, 2, 2}), 0);  // out of the window
  const std::vector<float> negative = {-1, -1.5f};
  EXPECT_EQ(sampler.sample(negative, std::vector<int32_t>{0}), 1);
}

TEST(Sampler, RefusesWhatItCannotDo) {
  const auto message = [](const std::function<void(SamplerOptions&)>& change) -> std::string {
    SamplerOptions options;
    change(options);
    try {
      Sampler sampler(options);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_THAT(message([](SamplerOptions& o) { o.temperature = -1; }),
              HasSubstr("temperature must be 0 to 100, got -1"));
  EXPECT_THAT(message([](SamplerOptions& o) { o.temperature = kNan; }), HasSubstr("temperature"));
  EXPECT_THAT(message([](SamplerOptions& o) { o.top_k = -1; }),
              HasSubstr("top-k must not be negative, got -1"));
  EXPECT_THAT(message([](SamplerOptions& o) { o.top_p = 0; }), HasSubstr("top-p"));
  EXPECT_THAT(message([](SamplerOptions& o) { o.top_p = 1.5; }), HasSubstr("got 1.5"));
  EXPECT_THAT(message([](SamplerOptions& o) { o.min_p = -0.1; }), HasSubstr("min-p"));
  EXPECT_THAT(message([](SamplerOptions& o) { o.repetition_penalty = 0; }),
              HasSubstr("repetition penalty"));
  EXPECT_THAT(message([](SamplerOptions& o) { o.penalty_window = -2; }),
              HasSubstr("penalty window"));
  Sampler sampler({});
  EXPECT_THROW(sampler.sample(std::vector<float>{kNan, kNan}, {}), Error);
  EXPECT_THROW(sampler.sample({}, {}), Error);
}

}  // namespace
}  // namespace mneme
