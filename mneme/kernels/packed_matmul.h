// Products of activations with packed quantised weights on byte dot products (VNNI, or the 16-bit
// multiply-adds before it): y = x W^T with x as the 16-bit integers of activation_planes.h and W's
// codes as they are stored.
//
//   y[m, n] = sum over blocks b of 32 inputs, in order, in float32:
//               (x_scale[m, b] * w_scale[n, b]) * (sum of q * (code - centre), exact in int32)
//             + w_minimum[n, b] * (x_scale[m, b] * sum of q)            where the type has minima
//
// So y differs from the float32 product by the rounding of x to 16 bits alone (at most 2^-16 of a
// block's largest input). A row has the same bits alone, in a chunk, in a batch and at any number of
// threads. Q6_K's scales change every 16 inputs: its sums are over halves of a block. Tests:
// packed_matmul_test.cc against the float64 product of the decoded weights, on every target.
#pragma once

#include <cstdint>
#include <span>

#include "mneme/kernels/activation_planes.h"
#include "mneme/kernels/packed_weight.h"

namespace mneme {

// One of several products that share their activations.
struct PackedProduct {
  const PackedWeight* weight;
  float* y;  // [rows, out], overwritten
  int64_t y_stride;
};

// All products of `x` in one parallel loop. Throws Error when a weight's inputs are not x.in(), or a
// stride is below its outputs. Cost: rows * out * in multiply-adds; reads every weight once where
// rows are few. Allocates nothing.
void packed_matmul(std::span<const PackedProduct> products, const ActivationPlanes& x,
                   ThreadPool& pool);

}  // namespace mneme
