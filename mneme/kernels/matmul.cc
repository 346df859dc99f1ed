#include "mneme/kernels/matmul.h"

#include <hwy/aligned_allocator.h>

#include <algorithm>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/kernels/dispatch_type.h"
#include "mneme/kernels/weight_rows.h"

namespace mneme {
namespace {

// A panel of expanded rows shares the second-level cache with a tile of x.
constexpr int64_t kPanelBytes = 224 << 10;
constexpr int64_t kPanelRows = 48;
// A multiple of the outputs of a tile of every target.
constexpr int64_t kPanelUnit = 6;

WeightRows checked_rows(const char* caller, const TensorView& tensor) {
  MNEME_CHECK(tensor.shape.size() == 2, caller, ": expected a matrix, got ", tensor.name, " ",
              shape_text(tensor.shape));
  MNEME_CHECK(is_weight_type(tensor.dtype), caller, ": ", tensor.name, " has type ",
              dtype_name(tensor.dtype),
              ", expected one of F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K");
  const int64_t row_bytes = dtype_row_bytes(tensor.dtype, tensor.shape[1]);
  const int64_t bytes = checked_mul(tensor.shape[0], row_bytes, "weight matrix");
  MNEME_CHECK(tensor.bytes >= bytes, caller, ": ", tensor.name, " ", shape_text(tensor.shape),
              " needs ", bytes, " bytes, has ", tensor.bytes);
  return {tensor.dtype, reinterpret_cast<const uint8_t*>(tensor.data), row_bytes, tensor.shape[1]};
}

// Scratch of this thread, kept from call to call.
float* thread_scratch(int64_t floats) {
  thread_local hwy::AlignedFreeUniquePtr<float[]> scratch;
  thread_local int64_t size = 0;
  if (size < floats) {
    scratch = hwy::AllocateAligned<float>(static_cast<size_t>(floats));
    MNEME_CHECK(scratch != nullptr, "matmul: no memory for a panel of ", floats, " floats");
    size = floats;
  }
  return scratch.get();
}

// Outputs a task takes, a multiple of `unit`: at most `most`, and the same number of tasks for
// every thread where there are few.
int64_t task_outputs(int64_t out, int64_t most, int64_t unit, int threads) {
  int64_t tasks = ceil_div(out, most);
  tasks = ceil_div(tasks, threads) * threads;
  return std::max(unit, ceil_div(ceil_div(out, tasks), unit) * unit);
}

void multiply_with_panels(const Product& product, int64_t out, ThreadPool& pool) {
  // Rows a whole number of pages apart would all fall into the same sets of the cache.
  const int64_t stride = padded_width(product.weight.in) + 16;
  const int64_t fitting = kPanelBytes / (stride * static_cast<int64_t>(sizeof(float)));
  const int64_t most = std::clamp(fitting / kPanelUnit * kPanelUnit, kPanelUnit, kPanelRows);
  const int64_t outputs = task_outputs(out, most, kPanelUnit, pool.size());
  pool.run(ceil_div(out, outputs), [&](int64_t task, int) {
    const int64_t first = task * outputs, last = std::min(out, first + outputs);
    float* panel = thread_scratch(outputs * stride);
    expand_rows(product.weight, first, last, panel, stride, /*padded=*/true);
    multiply_panel(product, first, last, panel, stride);
  });
}

}  // namespace

void dequantize_row(const TensorView& tensor, int64_t row, float* out) {
  const WeightRows rows = checked_rows("dequantize_row", tensor);
  MNEME_CHECK(row >= 0 && row < tensor.shape[0], "dequantize_row: ", tensor.name, " has rows 0 to ",
              tensor.shape[0] - 1, ", got row ", row);
  expand_rows(rows, row, row + 1, out, 0, /*padded=*/false);
}

void matmul(const TensorView& weight, const float* x, int64_t rows, int64_t x_stride, float* y,
            int64_t y_stride, ThreadPool& pool) {
  const WeightRows weight_rows = checked_rows("matmul", weight);
  const int64_t out = weight.shape[0], in = weight.shape[1];
  MNEME_CHECK(rows >= 0, "matmul: ", weight.name, ": rows must not be negative, got ", rows);
  MNEME_CHECK(x_stride >= in, "matmul: ", weight.name, " ", shape_text(weight.shape),
              " needs x_stride of at least ", in, ", got ", x_stride);
  MNEME_CHECK(y_stride >= out, "matmul: ", weight.name, " ", shape_text(weight.shape),
              " needs y_stride of at least ", out, ", got ", y_stride);
  if (rows == 0 || out == 0) return;
  const Product product{weight_rows, x, rows, x_stride, y, y_stride};
  if (rows > kFewRows) return multiply_with_panels(product, out, pool);
  constexpr int64_t kMostOutputs = 64, kUnit = 8;
  const int64_t outputs = task_outputs(out, kMostOutputs, kUnit, pool.size());
  pool.run(ceil_div(out, outputs), [&](int64_t task, int) {
    multiply_few_rows(product, task * outputs, std::min(out, (task + 1) * outputs));
  });
}

}  // namespace mneme
