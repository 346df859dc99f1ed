#include "mneme/eval/comparison_json.h"

#include <nlohmann/json.hpp>

namespace mneme {
namespace {

using Json = nlohmann::ordered_json;

Json divergence_json(const KlSummary& divergence) {
  return {{"tokens", divergence.tokens}, {"mean", divergence.mean},
          {"median", divergence.median}, {"p99", divergence.p99},
          {"max", divergence.max},       {"top1_agreement", divergence.top1_agreement}};
}

Json prompt_json(const PromptQuality& quality, const std::string& reference) {
  Json json = {{"task", "prompt"},
               {"reference", reference},
               {"kl", divergence_json(quality.divergence)},
               {"answer_tokens", quality.answer_tokens}};
  if (quality.answer_tokens > 0) {
    json["answer_log_prob_per_token"] = quality.answer_log_prob;
    json["answer_agreement"] = quality.answer_agreement;
    json["same_tokens"] = quality.same_tokens;
  }
  return json;
}

Json perplexity_json(const PerplexityQuality& quality, const std::string& reference) {
  Json json = {{"task", "perplexity"},
               {"reference", reference},
               {"tokens", quality.tokens},
               {"perplexity", quality.perplexity},
               {"perplexity_error", quality.perplexity_error},
               {"mean_nll", quality.mean_nll}};
  if (quality.ratio) json["ratio"] = *quality.ratio;
  if (quality.divergence) json["kl"] = divergence_json(*quality.divergence);
  return json;
}

Json quality_json(const ComparisonRow& row, const std::string& reference) {
  if (row.prompt_quality) return prompt_json(*row.prompt_quality, reference);
  if (row.perplexity_quality) return perplexity_json(*row.perplexity_quality, reference);
  return nullptr;
}

Json row_json(const ComparisonRow& row, const Comparison& comparison) {
  Json speed = Json::array();
  for (const SpeedPoint& point : row.speed) {
    speed.push_back({{"context", point.context},
                     {"prefill_tokens_per_s", point.prefill_rate},
                     {"decode_tokens_per_s", point.decode_rate}});
  }
  Json json = {{"text", row.text},
               {"tokens", row.tokens},
               {"prompt_tokens", row.prompt_tokens},
               {"reused_tokens", row.reused_tokens},
               {"prefill_tokens_per_s", row.prefill_rate},
               {"decode_tokens_per_s", row.decode_rate},
               {"seconds", row.seconds},
               {"memory",
                {{"spec", row.spec},
                 {"resident_bytes", row.resident_bytes},
                 {"logical_bytes", row.logical_bytes},
                 {"peak_bytes", row.peak_bytes}}},
               {"quality", quality_json(row, comparison.reference)},
               {"speed", std::move(speed)}};
  if (!row.error.empty()) json["error"] = row.error;
  return json;
}

}  // namespace

std::string comparison_json(const Comparison& comparison) {
  Json rows = Json::array();
  for (const ComparisonRow& row : comparison.rows) rows.push_back(row_json(row, comparison));
  return rows.dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace mneme
