#include "mneme/models/linear.h"

#include "mneme/kernels/matmul.h"

namespace mneme {
namespace {

class StoredLinear final : public Linear {
 public:
  explicit StoredLinear(const TensorView& weight) : weight_(weight) {}

  void apply(const float* x, int64_t rows, int64_t x_stride, float* y, int64_t y_stride,
             ThreadPool& pool) const override {
    matmul(weight_, x, rows, x_stride, y, y_stride, pool);
  }
  int64_t owned_bytes() const override { return 0; }
  bool reads_tensor() const override { return true; }

 private:
  const TensorView& weight_;
};

}  // namespace

std::unique_ptr<Linear> stored_linear(const TensorView& weight) {
  return std::make_unique<StoredLinear>(weight);
}

}  // namespace mneme
