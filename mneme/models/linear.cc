#include "mneme/models/linear.h"

#include <algorithm>

#include "mneme/kernels/matmul.h"
#include "mneme/kernels/packed_matmul.h"

namespace mneme {
namespace {

class FloatLinear final : public Linear {
 public:
  explicit FloatLinear(const TensorView& weight) : weight_(weight) {}

  void apply(const float* x, int64_t rows, int64_t x_stride, float* y, int64_t y_stride,
             ThreadPool& pool) const override {
    matmul(weight_, x, rows, x_stride, y, y_stride, pool);
  }
  int64_t owned_bytes() const override { return 0; }
  bool reads_tensor() const override { return true; }

 private:
  const TensorView& weight_;
};

// One for each thread that runs models, not one for each layer: it holds the activations of a whole
// chunk.
ActivationPlanes& thread_planes() {
  thread_local ActivationPlanes planes;
  return planes;
}

class PackedLinear final : public Linear {
 public:
  PackedLinear(const TensorView& weight, ThreadPool& pool) : weight_(weight, pool) {}

  void apply(const float* x, int64_t rows, int64_t x_stride, float* y, int64_t y_stride,
             ThreadPool& pool) const override {
    thread_planes().assign(x, rows, x_stride, weight_.in(), pool);
    const PackedProduct product{&weight_, y, y_stride};
    packed_matmul({&product, 1}, thread_planes(), pool);
  }
  int64_t owned_bytes() const override { return weight_.bytes(); }
  bool reads_tensor() const override { return false; }
  int64_t workspace_bytes(int64_t rows) const override {
    return ActivationPlanes::bytes(rows, weight_.in());
  }
  const PackedWeight* packed() const override { return &weight_; }

 private:
  PackedWeight weight_;
};

}  // namespace

std::unique_ptr<Linear> float_linear(const TensorView& weight) {
  return std::make_unique<FloatLinear>(weight);
}

std::unique_ptr<Linear> stored_linear(const TensorView& weight, ThreadPool& pool) {
  if (!PackedWeight::packs(weight.dtype)) return float_linear(weight);
  return std::make_unique<PackedLinear>(weight, pool);
}

void apply_together(std::span<const LinearOutput> outputs, const float* x, int64_t rows,
                    int64_t x_stride, ThreadPool& pool) {
  constexpr size_t kMost = 4;
  PackedProduct products[kMost];
  const auto packed = [](const LinearOutput& output) { return output.linear->packed() != nullptr; };
  if (outputs.empty() || outputs.size() > kMost || !std::ranges::all_of(outputs, packed)) {
    for (const LinearOutput& output : outputs)
      output.linear->apply(x, rows, x_stride, output.y, output.out, pool);
    return;
  }
  for (size_t i = 0; i < outputs.size(); ++i)
    products[i] = {outputs[i].linear->packed(), outputs[i].y, outputs[i].out};
  thread_planes().assign(x, rows, x_stride, products[0].weight->in(), pool);
  packed_matmul({products, outputs.size()}, thread_planes(), pool);
}

}  // namespace mneme
