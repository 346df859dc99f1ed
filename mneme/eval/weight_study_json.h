// A study of weights as JSON. Keys are a contract:
//   {reference, forms: [{form, windows, perplexity, ratio, ratio_error, top1_agreement,
//   mean_cosine, mean_kl, weight_bytes, linear_bytes, of_bf16, prefill_tokens_per_s,
//   decode_tokens_per_s, outlier_columns, columns, linears_with_outliers, linears, layers: [share],
//   worst: [{layer, weight, columns, outlier_columns}]}], outlier_features: [{feature, layer_share,
//   position_share, largest}], outlier_value_share, interrupted}
// Rates that were not measured are 0. Tests: weight_study_test.cc.
#pragma once

#include <string>

#include "mneme/eval/weight_study.h"

namespace mneme {

std::string weight_study_json(const WeightStudy& study);

}  // namespace mneme
