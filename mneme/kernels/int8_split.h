// Float32 rows as three int8 digits, so that a product with int8 weights and float activations is
// three exact integer products: VPDPBUSD takes 64 weights where turning codes into floats and
// multiplying those takes 16 instructions.
//
//   q[k] = round(x[k] * 2^e),  |q| <= 127 * (65536 + 256 + 1) < 2^23,  e by the row's largest value
//   q = 65536 d2 + 256 d1 + d0,  d in [-128, 127]
//   x w = 2^-e (65536 (d2 w) + 256 (d1 w) + (d0 w))
//
// The scaling is exact, so x is held to within 1 / 8355711 of the row's largest value: the error of
// a sum of `in` products is no larger than that of a float32 accumulation. The integer sums do not
// depend on any order. Tests: int8_split_test.cc.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mneme/core/thread_pool.h"
#include "mneme/kernels/int8_quantize.h"

namespace mneme {

// Rows of one call as digits. Buffers grow and are kept.
class SplitActivations {
 public:
  static constexpr int64_t kDigits = 3;
  static int64_t bytes_of(int64_t rows, int64_t in) {
    return rows * (kDigits * Int8Activations::stride_of(in) + static_cast<int64_t>(sizeof(float)));
  }

  // x [rows, in], row stride x_stride >= in. Throws Error naming `name` when a value is not finite.
  void split(const float* x, int64_t rows, int64_t x_stride, int64_t in, const std::string& name,
             ThreadPool& pool);

  int64_t stride() const { return stride_; }
  // Digits + 128 as int8_product() takes them, [rows, 3, stride]: d2, d1, d0 of a row one behind
  // the other.
  const uint8_t* biased_digits() const { return digits_.data(); }
  // 2^-e of each row, [rows].
  const float* scales() const { return scales_.data(); }

 private:
  int64_t stride_ = 0;
  std::vector<uint8_t> digits_;
  std::vector<float> scales_;
};

// y [count] = scale * (65536 c[0] + 256 c[1] + c[2]) from the products of a row's three digits,
// c [3, c_stride].
void join_digit_products(const int32_t* c, int64_t c_stride, float scale, int64_t count, float* y);

}  // namespace mneme
