#include "mneme/eval/study_json.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "mneme/core/error.h"
#include "mneme/eval/study_summary.h"

namespace mneme {
namespace {

using Json = nlohmann::ordered_json;

Json optional_json(const std::optional<double>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json divergence_json(const KlSummary& divergence) {
  return {{"tokens", divergence.tokens}, {"mean", divergence.mean},
          {"median", divergence.median}, {"p99", divergence.p99},
          {"max", divergence.max},       {"top1_agreement", divergence.top1_agreement}};
}

// What is read back: each field by its own name, so that nothing is forgotten on one side.
template <typename Visit>
void visit_fields(KlSummary& kl, const Visit& visit) {
  visit("tokens", kl.tokens), visit("mean", kl.mean), visit("median", kl.median);
  visit("p99", kl.p99), visit("max", kl.max), visit("top1_agreement", kl.top1_agreement);
}

template <typename Visit>
void visit_fields(RecallScore& score, const Visit& visit) {
  visit("length", score.length), visit("prompt_tokens", score.prompt_tokens);
  visit("answer", score.answer), visit("greedy", score.greedy);
  visit("log_probs", score.log_probs), visit("exact", score.exact), visit("found", score.found);
  visit("seconds", score.seconds), visit("decode_rate", score.decode_rate);
  visit("resident_bytes", score.resident_bytes), visit("logical_bytes", score.logical_bytes);
  visit("peak_bytes", score.peak_bytes);
}

template <typename Visit>
void visit_fields(ContinuationScore& score, const Visit& visit) {
  visit("prompt_tokens", score.prompt_tokens), visit("tokens", score.tokens);
  visit("mean_nll", score.mean_nll), visit("standard_error", score.standard_error);
  visit("prompt_seconds", score.prompt_seconds), visit("decode_rate", score.decode_rate);
  visit("resident_bytes", score.resident_bytes), visit("logical_bytes", score.logical_bytes);
  visit("peak_bytes", score.peak_bytes), visit("complete", score.complete);
}

template <typename Visit>
void visit_fields(KeptTokens& kept, const Visit& visit) {
  visit("layers", kept.layers), visit("heads", kept.heads), visit("tokens", kept.tokens);
  visit("bins", kept.bins), visit("of_bin", kept.of_bin), visit("of_token", kept.of_token);
}

template <typename T>
Json written(const T& fields) {
  Json json = Json::object();
  T copy = fields;
  visit_fields(copy, [&](const char* name, const auto& value) { json[name] = value; });
  return json;
}

template <typename T>
T read(const Json& json) {
  T fields;
  visit_fields(fields, [&](const char* name, auto& value) { json.at(name).get_to(value); });
  return fields;
}

void check_kept(const KeptTokens& kept) {
  constexpr int64_t kMost = int64_t{1} << 20;
  const auto fits = [](int64_t value) { return value >= 1 && value <= kMost; };
  MNEME_CHECK(fits(kept.layers) && fits(kept.heads) && fits(kept.bins) && fits(kept.tokens) &&
                  kept.bins <= kept.tokens && std::ssize(kept.of_token) == kept.tokens &&
                  std::ssize(kept.of_bin) % kept.bins == 0 &&
                  std::ssize(kept.of_bin) / kept.bins == kept.layers * kept.heads,
              "stored result: the kept tokens of ", kept.layers, " layers, ", kept.heads,
              " heads and ", kept.tokens, " tokens do not fit their tables");
  for (const auto* counts : {&kept.of_bin, &kept.of_token}) {
    for (const int32_t count : *counts)
      MNEME_CHECK(count >= 0, "stored result: a number of kept tokens is ", count);
  }
}

Json recall_json(const Study& study, StudyTask task, size_t memory, const RecallSummary& summary) {
  Json scores = Json::array();
  for (const StudyCell& cell : study.cells) {
    if (cell.task != task || cell.memory != memory || !cell.result || !cell.result->recall)
      continue;
    const RecallScore& score = *cell.result->recall;
    scores.push_back({{"length", score.length},
                      {"prompt_tokens", score.prompt_tokens},
                      {"depth", optional_json(score.depth)},
                      {"answer", score.answer},
                      {"greedy", score.greedy},
                      {"log_prob", score.log_prob()},
                      {"log_prob_per_token", score.log_prob_per_token()},
                      {"exact", score.exact},
                      {"found", score.found}});
  }
  return {{"task", task_name(task)},
          {"cases", summary.cases},
          {"mean_log_prob_per_token", summary.mean_log_prob},
          {"exact_rate", summary.exact_rate},
          {"found_rate", summary.found_rate},
          {"scores", std::move(scores)}};
}

Json text_json(const Study& study, StudyTask task, const ContinuationScore& score) {
  Json json = {{"task", task_name(task)},
               {"reference", study.reference},
               {"tokens", score.tokens},
               {"perplexity", std::exp(score.mean_nll)},
               {"mean_nll", score.mean_nll}};
  if (task == StudyTask::kPerplexity)
    json["perplexity_error"] = std::exp(score.mean_nll) * score.standard_error;
  if (score.divergence) json["kl"] = divergence_json(*score.divergence);
  return json;
}

// A point for every length of the task's cases that this memory has done.
Json speed_json(const Study& study, StudyTask task, size_t memory) {
  std::set<int64_t> lengths;
  for (const StudyCell& cell : study.cells) {
    if (cell.task == task) lengths.insert(cell.length);
  }
  Json speed = Json::array();
  for (const int64_t length : lengths) {
    const StudySummary part = summarise(study, task, memory, length);
    if (part.cases == 0) continue;
    speed.push_back({{"context", length},
                     {"prefill_tokens_per_s", part.prefill_rate},
                     {"decode_tokens_per_s", part.decode_rate}});
  }
  return speed;
}

Json row_json(const Study& study, StudyTask task, size_t memory) {
  const StudySummary summary = summarise(study, task, memory);
  Json quality = nullptr;
  if (summary.recall) quality = recall_json(study, task, memory, *summary.recall);
  if (summary.text) quality = text_json(study, task, *summary.text);
  Json json = {{"text", ""},
               {"tokens", Json::array()},
               {"prompt_tokens", summary.prompt_tokens},
               {"reused_tokens", 0},
               {"prefill_tokens_per_s", summary.prefill_rate},
               {"decode_tokens_per_s", summary.decode_rate},
               {"seconds", summary.seconds},
               {"memory",
                {{"spec", study.specs[memory]},
                 {"resident_bytes", summary.resident_bytes},
                 {"logical_bytes", summary.logical_bytes},
                 {"peak_bytes", summary.peak_bytes}}},
               {"quality", std::move(quality)},
               {"speed", speed_json(study, task, memory)}};
  if (!summary.error.empty()) json["error"] = summary.error;
  return json;
}

}  // namespace

std::string study_json(const Study& study) {
  Json rows = Json::array();
  for (const StudyTask task : study.tasks) {
    for (size_t memory = 0; memory < study.memories.size(); ++memory)
      rows.push_back(row_json(study, task, memory));
  }
  return rows.dump(2, ' ', false, Json::error_handler_t::replace);
}

std::string study_result_json(const StudyResult& result) {
  Json json = {{"error", result.error}, {"seconds", result.seconds}, {"looked", result.looked}};
  if (result.recall) {
    json["recall"] = written(*result.recall);
    if (result.recall->depth) json["recall"]["depth"] = *result.recall->depth;
  }
  if (result.text) {
    json["text"] = written(*result.text);
    if (result.text->divergence) json["text"]["kl"] = written(*result.text->divergence);
  }
  if (result.kept) json["kept"] = written(*result.kept);
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

StudyResult parse_study_result(std::string_view text) {
  try {
    const Json json = Json::parse(text);
    StudyResult result{
        .error = json.at("error"), .seconds = json.at("seconds"), .looked = json.at("looked")};
    if (json.contains("recall")) {
      result.recall = read<RecallScore>(json["recall"]);
      if (json["recall"].contains("depth"))
        result.recall->depth = json["recall"]["depth"].get<double>();
    }
    if (json.contains("text")) {
      result.text = read<ContinuationScore>(json["text"]);
      if (json["text"].contains("kl"))
        result.text->divergence = read<KlSummary>(json["text"]["kl"]);
    }
    if (json.contains("kept")) {
      result.kept = read<KeptTokens>(json["kept"]);
      check_kept(*result.kept);
    }
    MNEME_CHECK(!result.error.empty() || result.recall || result.text,
                "stored result: it holds neither a score nor an error");
    return result;
  } catch (const nlohmann::json::exception& error) {
    fail("stored result: ", error.what());
  }
}

}  // namespace mneme
