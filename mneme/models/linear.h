// One linear layer of a model, y = x W^T, whatever form its weights have: as stored in the file, or
// converted at load (weight_format.h). A model calls apply() and does not know which.
// Tests: linear_test.cc.
#pragma once

#include <cstdint>
#include <memory>

#include "mneme/core/tensor_view.h"
#include "mneme/core/thread_pool.h"

namespace mneme {

class Linear {
 public:
  virtual ~Linear() = default;

  // x [rows, in], y [rows, out] overwritten; row strides x_stride >= in, y_stride >= out
  // (elements). Not reentrant with the pool's other loops. Throws Error naming the weight.
  virtual void apply(const float* x, int64_t rows, int64_t x_stride, float* y, int64_t y_stride,
                     ThreadPool& pool) const = 0;

  // Bytes of weights this object holds itself, in the form in which they lie in memory; the
  // tensor it was made from not counted.
  virtual int64_t owned_bytes() const = 0;
  // Whether apply() reads the tensor it was made from. Where not, the tensor's memory may be given
  // back.
  virtual bool reads_tensor() const = 0;
  // Scratch that a call with `rows` rows holds besides x and y.
  virtual int64_t workspace_bytes(int64_t /*rows*/) const { return 0; }
};

// Multiplies with the weight [out, in] where it lies; `weight` outlives the result.
std::unique_ptr<Linear> stored_linear(const TensorView& weight);

}  // namespace mneme
