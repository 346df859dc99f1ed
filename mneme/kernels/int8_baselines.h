// The ways of 8-bit multiplication that LLM.int8() is compared with (its paper's table 1): x [rows,
// in] and W [out, in] quantised with fewer or other scales, the product exact in int32, no outlier
// columns.
//
//   kTensor     one absmax scale for x, one for W
//   kRow        one absmax scale a row of x, one for W
//   kVector     one a row of x, one a row of W: Int8Linear with threshold 0
//   kZeroPoint  affine, per tensor: nd = 255 / (max - min), zp = round(-min nd) - 128,
//               q = round(v nd) + zp in [-128, 127]; products corrected by both zero points
//
// Scales of x are those of the call. Tests: int8_baselines_test.cc (float64 naive twins; kVector
// equals Int8Linear).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mneme/kernels/int8_linear.h"

namespace mneme {

enum class Int8Method { kTensor, kRow, kVector, kZeroPoint };

class Int8Baseline {
 public:
  // As Int8Linear, without bias. Throws Error naming the layer on values that are not finite.
  Int8Baseline(std::string name, int64_t out, int64_t in, Int8Linear::RowReader rows,
               Int8Method method, ThreadPool& pool);

  // x [rows, in], y [rows, out] overwritten. Throws Error naming the layer.
  void forward(const float* x, int64_t rows, int64_t x_stride, float* y, int64_t y_stride,
               ThreadPool& pool) const;

  int64_t bytes() const { return codes_.bytes() + static_cast<int64_t>(scales_.size() * 4); }

 private:
  std::string name_;
  Int8Method method_;
  PackedInt8 codes_;
  std::vector<float> scales_;  // [out]: what a code of each row stands for
  double zero_point_ = 0;      // of the codes, a whole number
};

}  // namespace mneme
