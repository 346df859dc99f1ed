#include "mneme/kernels/matmul.h"

#include <vector>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/kernels/dequantize_naive.h"

namespace mneme {
namespace {

bool is_supported(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kQ8_0:
    case DType::kQ4_0:
    case DType::kQ4_1:
    case DType::kQ5_0:
    case DType::kQ5_1:
    case DType::kQ4_K:
    case DType::kQ5_K:
    case DType::kQ6_K:
      return true;
    default:
      return false;
  }
}

void check_matrix(const char* caller, const TensorView& tensor) {
  MNEME_CHECK(tensor.shape.size() == 2, caller, ": expected a matrix, got ", tensor.name, " ",
              shape_text(tensor.shape));
  MNEME_CHECK(is_supported(tensor.dtype), caller, ": ", tensor.name, " has type ",
              dtype_name(tensor.dtype),
              ", expected one of F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K");
  const int64_t bytes =
      checked_mul(tensor.shape[0], dtype_row_bytes(tensor.dtype, tensor.shape[1]), "weight matrix");
  MNEME_CHECK(tensor.bytes >= bytes, caller, ": ", tensor.name, " ", shape_text(tensor.shape),
              " needs ", bytes, " bytes, has ", tensor.bytes);
}

}  // namespace

void dequantize_row(const TensorView& tensor, int64_t row, float* out) {
  check_matrix("dequantize_row", tensor);
  MNEME_CHECK(row >= 0 && row < tensor.shape[0], "dequantize_row: ", tensor.name, " has rows 0 to ",
              tensor.shape[0] - 1, ", got row ", row);
  naive_dequantize_row(tensor, row, out);
}

void matmul(const TensorView& weight, const float* x, int64_t rows, int64_t x_stride, float* y,
            int64_t y_stride, ThreadPool& pool) {
  check_matrix("matmul", weight);
  const int64_t out = weight.shape[0], in = weight.shape[1];
  MNEME_CHECK(rows >= 0, "matmul: ", weight.name, ": rows must not be negative, got ", rows);
  MNEME_CHECK(x_stride >= in, "matmul: ", weight.name, " ", shape_text(weight.shape),
              " needs x_stride of at least ", in, ", got ", x_stride);
  MNEME_CHECK(y_stride >= out, "matmul: ", weight.name, " ", shape_text(weight.shape),
              " needs y_stride of at least ", out, ", got ", y_stride);
  pool.run(out, [&](int64_t n, int) {
    std::vector<float> w(static_cast<size_t>(in));
    naive_dequantize_row(weight, n, w.data());
    for (int64_t m = 0; m < rows; ++m) {
      float sum = 0;
      for (int64_t k = 0; k < in; ++k) sum += x[m * x_stride + k] * w[static_cast<size_t>(k)];
      y[m * y_stride + n] = sum;
    }
  });
}

}  // namespace mneme
