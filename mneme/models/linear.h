// One linear layer of a model, y = x W^T, whatever form its weights have: as stored in the file, in
// another order, or converted at load. A model calls apply() and does not know which.
// Tests: linear_test.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "mneme/core/tensor_view.h"
#include "mneme/core/thread_pool.h"
#include "mneme/kernels/packed_weight.h"

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
  // The packed weight it multiplies with, or null: what apply_together() joins.
  virtual const PackedWeight* packed() const { return nullptr; }
};

// Multiplies in float32 with the weight [out, in] where it lies; `weight` outlives the result.
std::unique_ptr<Linear> float_linear(const TensorView& weight);

// The same weights packed for byte dot products where their type allows it (packed_matmul.h: the
// activations are rounded to 16 bits), else float_linear(weight).
std::unique_ptr<Linear> stored_linear(const TensorView& weight, ThreadPool& pool);

struct LinearOutput {
  const Linear* linear;
  float* y;  // [rows, out], densely
  int64_t out;
};

// Several layers with the same x [rows, in]: the same bits as one apply() each, in one parallel loop
// over activations rounded once where all of them are packed.
void apply_together(std::span<const LinearOutput> outputs, const float* x, int64_t rows,
                    int64_t x_stride, ThreadPool& pool);

}  // namespace mneme
