#include "mneme/eval/study_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "mneme/core/error.h"

namespace mneme {
namespace {

using ::testing::HasSubstr;

StudyResult recall_result() {
  return {.seconds = 1.5,
          .recall = RecallScore{.length = 100,
                                .depth = 0.25,
                                .prompt_tokens = 99,
                                .answer = "12345",
                                .greedy = "half \xE2\x82",
                                .log_probs = {-0.1, -1.0 / 3},
                                .exact = true,
                                .found = 0.5,
                                .seconds = 0.7,
                                .decode_rate = 33.3,
                                .resident_bytes = 10,
                                .logical_bytes = 20,
                                .peak_bytes = 15},
          .looked = true,
          .kept = KeptTokens{.layers = 1,
                             .heads = 2,
                             .tokens = 3,
                             .bins = 2,
                             .of_bin = {1, 2, 0, 1},
                             .of_token = {1, 2, 1}}};
}

StudyResult text_result() {
  return {.seconds = 2,
          .text = ContinuationScore{.prompt_tokens = 80,
                                    .tokens = 20,
                                    .mean_nll = 2.5,
                                    .standard_error = 0.1,
                                    .divergence = KlSummary{.tokens = 20,
                                                            .mean = 0.1,
                                                            .median = 0.05,
                                                            .p99 = 0.9,
                                                            .max = 1,
                                                            .top1_agreement = 0.75},
                                    .prompt_seconds = 1,
                                    .decode_rate = 5,
                                    .resident_bytes = 1,
                                    .logical_bytes = 2,
                                    .peak_bytes = 3,
                                    .complete = true}};
}

TEST(StudyResultJson, IsReadBackAsItWas) {
  const StudyResult recall = parse_study_result(study_result_json(recall_result()));
  EXPECT_EQ(recall.recall->log_probs, recall_result().recall->log_probs);  // bit for bit
  EXPECT_EQ(recall.recall->depth, 0.25);
  EXPECT_EQ(recall.recall->greedy, "half \xEF\xBF\xBD");
  EXPECT_EQ(recall.kept, recall_result().kept);
  EXPECT_TRUE(recall.looked);
  EXPECT_FALSE(recall.text.has_value());
  for (const StudyResult& result : {recall_result(), text_result(), StudyResult{.error = "no"}}) {
    const std::string text = study_result_json(result);
    EXPECT_EQ(text.find('\n'), std::string::npos);
    EXPECT_EQ(study_result_json(parse_study_result(text)), text);
  }
  EXPECT_EQ(parse_study_result(study_result_json(text_result())).text->divergence->p99, 0.9);
  StudyResult without = recall_result();
  without.recall->depth.reset();
  EXPECT_FALSE(parse_study_result(study_result_json(without)).recall->depth.has_value());
}

TEST(StudyResultJson, RefusesWhatIsNone) {
  const auto message = [](std::string_view json) -> std::string {
    try {
      parse_study_result(json);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  for (const char* bad : {"", "{", "[]", "{}", "7", R"({"error":"","seconds":"x"})",
                          R"({"error":"","seconds":1,"looked":false,"recall":{}})",
                          R"({"error":"","seconds":1,"looked":false,"text":[]})"})
    EXPECT_THAT(message(bad), HasSubstr("stored result: ")) << bad;
  EXPECT_THAT(message(R"({"error":"","seconds":1,"looked":false})"),
              HasSubstr("neither a score nor an error"));
  for (const char* change : {R"("bins":3)", R"("bins":0)", R"("layers":2)", R"("tokens":4)",
                             R"("layers":9223372036854775807)"}) {
    std::string text = study_result_json(recall_result());
    const std::string name = std::string(change).substr(0, std::string(change).find(':'));
    const size_t at = text.find(name, text.find("\"kept\""));
    text.replace(at, text.find(',', at) - at, change);
    EXPECT_THAT(message(text), HasSubstr("do not fit their tables")) << text;
  }
}

TEST(StudyJson, OneObjectForEachTaskAndMemoryWithTheKeysOfTheContract) {
  Study study{.tasks = {StudyTask::kNeedle, StudyTask::kDivergence},
              .memories = {{.spec = "full"}, {.spec = "q4"}},
              .specs = {"full(dtype=f16)", "q4(group=64)"},
              .reference = "full(dtype=f16)"};
  study.cells = {
      {.task = StudyTask::kNeedle, .memory = 0, .length = 100, .result = recall_result()},
      {.task = StudyTask::kNeedle,
       .memory = 1,
       .length = 100,
       .result = StudyResult{.error = "too long"}},
      {.task = StudyTask::kDivergence, .memory = 0, .result = text_result()},
      {.task = StudyTask::kDivergence, .memory = 1}};
  const auto rows = nlohmann::json::parse(study_json(study));
  ASSERT_EQ(rows.size(), 4u);
  for (const auto& row : rows) {
    for (const char* key : {"text", "tokens", "prompt_tokens", "reused_tokens",
                            "prefill_tokens_per_s", "decode_tokens_per_s", "memory", "quality"})
      EXPECT_TRUE(row.contains(key)) << key;
    for (const char* key : {"spec", "resident_bytes", "logical_bytes", "peak_bytes"})
      EXPECT_TRUE(row["memory"].contains(key)) << key;
  }
  EXPECT_EQ(rows[0]["quality"]["task"], "needle");
  EXPECT_EQ(rows[0]["quality"]["scores"][0]["depth"], 0.25);
  EXPECT_EQ(rows[0]["quality"]["scores"][0]["answer"], "12345");
  EXPECT_EQ(rows[0]["speed"].size(), 1u);
  EXPECT_EQ(rows[0]["speed"][0]["context"], 100);
  EXPECT_EQ(rows[0]["speed"][0]["decode_tokens_per_s"], 33.3);
  EXPECT_TRUE(rows[1]["speed"].empty());
  EXPECT_EQ(rows[1]["error"], "too long");
  EXPECT_TRUE(rows[1]["quality"].is_null());
  EXPECT_EQ(rows[2]["memory"]["spec"], "full(dtype=f16)");
  EXPECT_EQ(rows[2]["quality"]["kl"]["mean"], 0.1);
  EXPECT_NEAR(rows[2]["quality"]["perplexity"], std::exp(2.5), 1e-9);
  EXPECT_TRUE(rows[3]["quality"].is_null());
  EXPECT_FALSE(rows[3].contains("error"));
}

}  // namespace
}  // namespace mneme
