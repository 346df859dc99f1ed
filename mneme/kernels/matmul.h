// Products of activations with stored weights: y = x W^T, W [out, in] row-major in any GGUF or
// float type, x and y float32.
//
// Each y[m, n] is one dot product accumulated over `in` in one fixed order, whatever the number of
// rows m: a row gets the same bits alone, in a chunk or in a batch. Weights are expanded to float32
// in registers (few rows) or in a cache-sized tile (many rows), never as a whole. Tests:
// matmul_test.cc against a float64 naive product, dequantize_test.cc against ggml's own values.
#pragma once

#include <cstdint>

#include "mneme/core/tensor_view.h"
#include "mneme/core/thread_pool.h"

namespace mneme {

// x [rows, in], weight [out, in], y [rows, out] overwritten; row strides x_stride >= in, y_stride
// >= out (elements). Supported weight types: F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K,
// Q5_K, Q6_K; others throw Error naming the tensor.
void matmul(const TensorView& weight, const float* x, int64_t rows, int64_t x_stride, float* y,
            int64_t y_stride, ThreadPool& pool);

// Decodes row `row` of a [rows, columns] tensor of any supported type into out [columns].
void dequantize_row(const TensorView& tensor, int64_t row, float* out);

}  // namespace mneme
