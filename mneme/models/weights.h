// Binds a model's tensors by name and checks them against its configuration.
#pragma once

#include <string>
#include <vector>

#include "mneme/core/tensor_view.h"

namespace mneme {

// Collects what is wrong instead of stopping at the first fault; finish() then throws with the
// first five differences.
class WeightBinder {
 public:
  explicit WeightBinder(const TensorSource& source) : source_(source) {}

  // The tensor, its shape checked; null and a difference noted when it is missing or has another
  // shape.
  const TensorView* required(const std::string& name, const std::vector<int64_t>& shape);
  // The same, but it may be missing.
  const TensorView* optional(const std::string& name, const std::vector<int64_t>& shape);
  // A float32 vector [extent]: norm weights are used in place.
  const TensorView* vector(const std::string& name, int64_t extent);

  // Throws Error listing up to five differences, surplus tensors included.
  void finish();

 private:
  const TensorSource& source_;
  std::vector<std::string> used_;
  std::vector<std::string> differences_;
};

}  // namespace mneme
