#include "mneme/kernels/outlier_features.h"

#include <algorithm>
#include <cmath>

#include "mneme/core/error.h"

namespace mneme {

OutlierFeatures::OutlierFeatures(int64_t width, const OutlierCriteria& criteria)
    : width_(width), criteria_(criteria) {
  MNEME_CHECK(width > 0, "outlier features: the width must be positive, got ", width);
  MNEME_CHECK(criteria.threshold > 0 && std::isfinite(criteria.threshold),
              "outlier features: the threshold must be positive, got ", criteria.threshold);
  for (const double share : {criteria.layer_share, criteria.position_share}) {
    MNEME_CHECK(share >= 0 && share <= 1, "outlier features: shares are 0 to 1, got ", share);
  }
  largest_.assign(static_cast<size_t>(width), 0.0f);
}

void OutlierFeatures::add(int64_t layer, const float* x, int64_t rows, int64_t x_stride) {
  MNEME_CHECK(layer >= 0, "outlier features: layers begin at 0, got ", layer);
  MNEME_CHECK(rows >= 0 && x_stride >= width_,
              "outlier features: expected rows >= 0 and x_stride >= ", width_, ", got ", rows,
              " and ", x_stride);
  if (static_cast<int64_t>(hits_.size()) <= layer) hits_.resize(static_cast<size_t>(layer) + 1);
  std::vector<int64_t>& hits = hits_[static_cast<size_t>(layer)];
  if (hits.empty()) {
    hits.assign(static_cast<size_t>(width_), 0);
    ++layers_;
  }
  const auto threshold = static_cast<float>(criteria_.threshold);
  positions_ += rows;
  for (int64_t m = 0; m < rows; ++m) {
    for (int64_t k = 0; k < width_; ++k) {
      const float magnitude = std::abs(x[m * x_stride + k]);
      float& largest = largest_[static_cast<size_t>(k)];
      largest = std::max(largest, magnitude);
      if (magnitude < threshold) continue;
      ++hits[static_cast<size_t>(k)];
      ++outlier_values_;
    }
  }
}

std::vector<OutlierFeature> OutlierFeatures::features() const {
  std::vector<OutlierFeature> found;
  if (layers_ == 0 || positions_ == 0) return found;
  for (int64_t k = 0; k < width_; ++k) {
    const auto at = static_cast<size_t>(k);
    int64_t in_layers = 0, hits = 0;
    for (const std::vector<int64_t>& layer : hits_) {
      if (layer.empty() || layer[at] == 0) continue;
      ++in_layers;
      hits += layer[at];
    }
    const OutlierFeature feature{k, static_cast<double>(in_layers) / static_cast<double>(layers_),
                                 static_cast<double>(hits) / static_cast<double>(positions_),
                                 largest_[at]};
    if (hits > 0 && feature.layer_share >= criteria_.layer_share &&
        feature.position_share >= criteria_.position_share) {
      found.push_back(feature);
    }
  }
  return found;
}

}  // namespace mneme
