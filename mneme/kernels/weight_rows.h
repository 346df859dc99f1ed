// The parts of matmul.cc that are compiled for every SIMD target. All of them walk over `in` in
// chunks of 32, vector by vector, with one accumulator for each output, and add up its lanes by the
// tree of lane_sums-inl.h: that is the fixed order of matmul.h. The last chunk is filled with zeros
// where `in` is no multiple of 32 (float types only).
#pragma once

#include <cstdint>

#include "mneme/core/dtype.h"

namespace mneme {

// Rows of weights that were checked: [out, in] of a supported type.
struct WeightRows {
  DType dtype;
  const uint8_t* data;
  int64_t row_bytes;
  int64_t in;

  const uint8_t* row(int64_t n) const { return data + n * row_bytes; }
};

struct Product {
  WeightRows weight;
  const float* x;
  int64_t rows, x_stride;
  float* y;
  int64_t y_stride;
};

inline constexpr int64_t kChunkElements = 32;
inline constexpr int64_t kFewRows = 3;

inline constexpr int64_t padded_width(int64_t in) {
  return (in + kChunkElements - 1) / kChunkElements * kChunkElements;
}

// Rows [first, last) as float32 into out [last - first, stride]; zeros up to padded_width(in) where
// `padded`, nothing behind `in` otherwise.
void expand_rows(const WeightRows& weight, int64_t first, int64_t last, float* out, int64_t stride,
                 bool padded);

// y[:, first..last) for at most kFewRows rows, decoding weights in registers.
void multiply_few_rows(const Product& product, int64_t first, int64_t last);

// y[:, first..last) for any number of rows from the expanded weight rows first..last, panel
// [last - first, stride], stride >= padded_width(in), panel and stride aligned to 64 bytes.
void multiply_panel(const Product& product, int64_t first, int64_t last, const float* panel,
                    int64_t stride);

}  // namespace mneme
