#include "mneme/eval/weight_study_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace mneme {
namespace {

using Json = nlohmann::ordered_json;

Json row_json(const WeightStudyRow& row) {
  Json json = {{"form", row.form},
               {"windows", row.windows},
               {"perplexity", row.perplexity},
               {"ratio", row.ratio},
               {"ratio_error", row.ratio_error},
               {"top1_agreement", row.top1_agreement},
               {"mean_cosine", row.mean_cosine},
               {"mean_kl", row.mean_kl},
               {"weight_bytes", row.weight_bytes},
               {"linear_bytes", row.linear_bytes},
               {"of_bf16", row.of_bf16},
               {"prefill_tokens_per_s", row.prefill_rate},
               {"decode_tokens_per_s", row.decode_rate}};
  int64_t columns = 0, layers = 0;
  for (const LinearOutliers& one : row.outliers) {
    columns += one.columns;
    layers = std::max(layers, one.layer + 1);
  }
  json["outlier_columns"] = row.outlier_columns();
  json["columns"] = columns / std::max<int64_t>(1, row.windows);
  json["linears_with_outliers"] = row.linears_with_outliers();
  json["linears"] = row.outliers.size();
  json["layers"] = Json::array();
  for (int64_t layer = 0; layer < layers; ++layer)
    json["layers"].push_back(row.outlier_share(layer));
  constexpr size_t kWorst = 5;
  std::vector<LinearOutliers> worst = row.outliers;
  std::ranges::stable_sort(worst, std::greater<>(), &LinearOutliers::outlier_columns);
  json["worst"] = Json::array();
  for (size_t i = 0; i < std::min(kWorst, worst.size()); ++i) {
    if (worst[i].outlier_columns == 0) break;
    json["worst"].push_back({{"layer", worst[i].layer},
                             {"weight", worst[i].weight},
                             {"columns", worst[i].columns},
                             {"outlier_columns", worst[i].outlier_columns}});
  }
  return json;
}

}  // namespace

std::string weight_study_json(const WeightStudy& study) {
  Json json = {{"reference", row_json(study.reference)}, {"forms", Json::array()}};
  for (const WeightStudyRow& row : study.rows) json["forms"].push_back(row_json(row));
  json["outlier_features"] = Json::array();
  for (const OutlierFeature& feature : study.features) {
    json["outlier_features"].push_back({{"feature", feature.feature},
                                        {"layer_share", feature.layer_share},
                                        {"position_share", feature.position_share},
                                        {"largest", feature.largest}});
  }
  json["outlier_value_share"] = study.outlier_value_share;
  json["interrupted"] = study.interrupted;
  return json.dump(2);
}

}  // namespace mneme
