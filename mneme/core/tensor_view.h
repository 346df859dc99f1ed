// A tensor that someone else owns: what files hand out and kernels read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "mneme/core/dtype.h"

namespace mneme {

struct TensorView {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;  // outermost first, row-major; empty for a scalar
  const std::byte* data = nullptr;
  int64_t bytes = 0;

  int64_t elements() const {
    int64_t product = 1;
    for (const int64_t extent : shape) product *= extent;  // checked when the view was made
    return product;
  }
};

// "[49152, 576]"
std::string shape_text(const std::vector<int64_t>& shape);

// Where a model takes its tensors from: a GGUF file, a safetensors file, a test.
class TensorSource {
 public:
  virtual ~TensorSource() = default;
  // The tensor called `name`, or null. The view lives as long as the source.
  virtual const TensorView* find(std::string_view name) const = 0;
  // Every tensor in the order of the file.
  virtual const std::vector<TensorView>& tensors() const = 0;
  // For messages: the file's path.
  virtual const std::string& origin() const = 0;
  // Says that `tensor`, one of its own, will hardly be read again. Returns how many of its bytes
  // are given back to the system: the whole pages of a mapped file (a later read brings them back),
  // nothing where the file was read into memory.
  virtual int64_t release(const TensorView& /*tensor*/) const { return 0; }
};

}  // namespace mneme
