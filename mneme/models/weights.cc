#include "mneme/models/weights.h"

#include <algorithm>
#include <cstdint>

#include "mneme/core/error.h"

namespace mneme {

const TensorView* WeightBinder::optional(const std::string& name,
                                         const std::vector<int64_t>& shape) {
  const TensorView* tensor = source_.find(name);
  if (tensor == nullptr) return nullptr;
  used_.push_back(name);
  if (tensor->shape != shape) {
    differences_.push_back(
        concat(name, " is ", shape_text(tensor->shape), ", expected ", shape_text(shape)));
    return nullptr;
  }
  return tensor;
}

const TensorView* WeightBinder::required(const std::string& name,
                                         const std::vector<int64_t>& shape) {
  if (source_.find(name) == nullptr) differences_.push_back(name + " is missing");
  return optional(name, shape);
}

const TensorView* WeightBinder::vector(const std::string& name, int64_t extent) {
  const TensorView* tensor = required(name, {extent});
  if (tensor != nullptr && tensor->dtype != DType::kF32) {
    differences_.push_back(concat(name, " is ", dtype_name(tensor->dtype), ", expected F32"));
    return nullptr;
  }
  if (tensor != nullptr && reinterpret_cast<uintptr_t>(tensor->data) % alignof(float) != 0) {
    differences_.push_back(name + " does not lie on a 4-byte boundary in the file");
    return nullptr;
  }
  return tensor;
}

void WeightBinder::finish() {
  std::ranges::sort(used_);
  for (const TensorView& tensor : source_.tensors()) {
    if (!std::ranges::binary_search(used_, tensor.name))
      differences_.push_back(tensor.name + " is not part of this model");
  }
  if (differences_.empty()) return;
  std::string text = concat(source_.origin(), ": the tensors do not fit the configuration (",
                            differences_.size(), " differences):");
  for (size_t i = 0; i < std::min<size_t>(5, differences_.size()); ++i)
    text += "\n  " + differences_[i];
  throw Error(text);
}

}  // namespace mneme
