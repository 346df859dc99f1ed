// Which features (columns) of a model's activations are outliers, found offline (LLM.int8(),
// section 4 and appendix): a feature is one when its magnitude reaches the threshold in at least a
// share of the layers and, over those, in at least a share of the sequence positions.
//
// Feed the activations of each layer with add(), in any number of calls; only features of one width
// can be compared, so use one object for each. Tests: outlier_features_test.cc.
#pragma once

#include <cstdint>
#include <vector>

namespace mneme {

struct OutlierCriteria {
  double threshold = 6;          // magnitude, reached or exceeded
  double layer_share = 0.25;     // of the layers
  double position_share = 0.06;  // of the positions of all layers
};

struct OutlierFeature {
  int64_t feature;
  double layer_share;     // of the layers in which it reaches the threshold anywhere
  double position_share;  // of all positions of all layers
  float largest;          // magnitude
};

class OutlierFeatures {
 public:
  // Throws Error on a width below 1 or criteria that cannot be.
  OutlierFeatures(int64_t width, const OutlierCriteria& criteria = {});

  // x [rows, width], row stride x_stride: activations of `layer` (>= 0) at `rows` positions. The
  // inputs of several products of one layer may be added: a layer counts once.
  void add(int64_t layer, const float* x, int64_t rows, int64_t x_stride);

  // The features that meet the criteria, ascending.
  std::vector<OutlierFeature> features() const;
  // Values that reach the threshold, and all values seen.
  int64_t outlier_values() const { return outlier_values_; }
  int64_t values() const { return positions_ * width_; }
  int64_t layers() const { return layers_; }

 private:
  int64_t width_;
  OutlierCriteria criteria_;
  int64_t positions_ = 0, layers_ = 0, outlier_values_ = 0;
  std::vector<std::vector<int64_t>> hits_;  // [layers seen][width] or empty
  std::vector<float> largest_;              // [width]
};

}  // namespace mneme
