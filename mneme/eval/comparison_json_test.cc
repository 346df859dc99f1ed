#include "mneme/eval/comparison_json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace mneme {
namespace {

ComparisonRow row_of(const char* spec) {
  return {.label = spec,
          .spec = spec,
          .text = "an answer",
          .tokens = {1, 2, 3},
          .prompt_tokens = 100,
          .prefill_rate = 50,
          .decode_rate = 10,
          .seconds = 2,
          .resident_bytes = 1000,
          .logical_bytes = 2000,
          .peak_bytes = 1500,
          .speed = {{.context = 100, .prefill_rate = 50, .decode_rate = 11}}};
}

nlohmann::json parsed(const Comparison& comparison) {
  return nlohmann::json::parse(comparison_json(comparison));
}

TEST(ComparisonJson, EveryKeyOfTheContractIsThereForEveryTaskAndForFailures) {
  ComparisonRow prompt = row_of("q8");
  prompt.prompt_quality = PromptQuality{.divergence = {.tokens = 40, .mean = 0.25},
                                        .answer_tokens = 3,
                                        .answer_log_prob = -0.5,
                                        .answer_agreement = 1};
  ComparisonRow text = row_of("q4");
  text.perplexity_quality = PerplexityQuality{.tokens = 99, .perplexity = 20, .ratio = 1.5};
  ComparisonRow failed{.label = "x", .spec = "x", .error = "too long"};
  const auto json = parsed({.reference = "full", .rows = {prompt, text, failed}});
  ASSERT_EQ(json.size(), 3u);
  for (const auto& row : json) {
    for (const char* key : {"text", "tokens", "prompt_tokens", "reused_tokens",
                            "prefill_tokens_per_s", "decode_tokens_per_s", "memory", "quality"})
      EXPECT_TRUE(row.contains(key)) << key;
    for (const char* key : {"spec", "resident_bytes", "logical_bytes", "peak_bytes"})
      EXPECT_TRUE(row["memory"].contains(key)) << key;
  }
  EXPECT_EQ(json[0]["tokens"], (std::vector<int>{1, 2, 3}));
  EXPECT_EQ(json[0]["memory"]["resident_bytes"], 1000);
  EXPECT_EQ(json[0]["memory"]["peak_bytes"], 1500);
  EXPECT_EQ(json[0]["quality"]["kl"]["mean"], 0.25);
  EXPECT_EQ(json[0]["quality"]["answer_log_prob_per_token"], -0.5);
  EXPECT_EQ(json[0]["quality"]["reference"], "full");
  EXPECT_EQ(json[0]["speed"][0]["decode_tokens_per_s"], 11);
  EXPECT_FALSE(json[0].contains("error"));
  EXPECT_EQ(json[1]["quality"]["perplexity"], 20);
  EXPECT_EQ(json[1]["quality"]["ratio"], 1.5);
  EXPECT_EQ(json[2]["error"], "too long");
  EXPECT_TRUE(json[2]["quality"].is_null());
}

TEST(ComparisonJson, BadBytesOfAModelDoNotBreakIt) {
  ComparisonRow row = row_of("full");
  row.text = "half a character \xE2\x82";
  EXPECT_EQ(parsed({.rows = {row}})[0]["text"], "half a character \xEF\xBF\xBD");
  EXPECT_TRUE(parsed({}).empty());
}

}  // namespace
}  // namespace mneme
