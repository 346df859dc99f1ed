// The linears that only a study of weights uses. Tests: weight_study_test.cc.
#pragma once

#include <memory>

#include "mneme/kernels/int8_baselines.h"
#include "mneme/kernels/matmul.h"
#include "mneme/kernels/outlier_features.h"
#include "mneme/models/linear.h"

namespace mneme {

// One of the baselines of LLM.int8().
class BaselineLinear final : public Linear {
 public:
  BaselineLinear(const TensorView& weight, Int8Method method, ThreadPool& pool)
      : baseline_(
            weight.name, weight.shape[0], weight.shape[1],
            [&](int64_t n, float* to) { dequantize_row(weight, n, to); }, method, pool) {}
  void apply(const float* x, int64_t rows, int64_t x_stride, float* y, int64_t y_stride,
             ThreadPool& pool) const override {
    baseline_.forward(x, rows, x_stride, y, y_stride, pool);
  }
  int64_t owned_bytes() const override { return baseline_.bytes(); }
  bool reads_tensor() const override { return false; }

 private:
  Int8Baseline baseline_;
};

// A float32 linear whose inputs are looked at.
class WatchedLinear final : public Linear {
 public:
  WatchedLinear(int64_t layer, const TensorView& weight, OutlierFeatures& features)
      : layer_(layer), inner_(float_linear(weight)), features_(features) {}
  void apply(const float* x, int64_t rows, int64_t x_stride, float* y, int64_t y_stride,
             ThreadPool& pool) const override {
    features_.add(layer_, x, rows, x_stride);
    inner_->apply(x, rows, x_stride, y, y_stride, pool);
  }
  int64_t owned_bytes() const override { return inner_->owned_bytes(); }
  bool reads_tensor() const override { return inner_->reads_tensor(); }

 private:
  int64_t layer_;
  std::unique_ptr<Linear> inner_;
  OutlierFeatures& features_;
};

}  // namespace mneme
