// Activations as integers for packed_matmul.h: each block of 32 inputs of a row is scale * q with q
// of 16 bits, cut into two planes of signed bytes, q = 256 * high + low, so that products with 8-bit
// codes run on byte dot products.
//
//   scale = max |x| / 32512 of the block,  q = rint(x / scale) in [-32512, 32512],
//   high = floor((q + 128) / 256) in [-127, 127],  low = q - 256 * high in [-128, 127].
//
// |x - scale * q| <= max |x| / 65024 in the block: between float32 and the 4- to 8-bit codes that it
// meets, at least 8 bits finer than these. A block with NaN or infinity gets scale NaN, so its
// products are NaN. Rows do not depend on each other. Tests: activation_planes_test.cc.
#pragma once

#include <cstdint>
#include <vector>

#include "mneme/core/thread_pool.h"

namespace mneme {

inline constexpr int64_t kPlaneBlock = 32;
inline constexpr int kPlaneShift = 8;
inline constexpr float kPlaneLimit = 127 * 256;

class ActivationPlanes {
 public:
  // Replaces the content by x [rows, in], rows x_stride >= in floats apart; in is a multiple of 32.
  // Grows to the largest call and allocates nothing afterwards.
  void assign(const float* x, int64_t rows, int64_t x_stride, int64_t in, ThreadPool& pool);

  // Bytes held for `rows` rows of `in` inputs.
  static int64_t bytes(int64_t rows, int64_t in) { return rows * (2 * in + in / kPlaneBlock * 16); }

  int64_t rows() const { return rows_; }
  int64_t in() const { return in_; }
  int64_t blocks() const { return in_ / kPlaneBlock; }
  const int8_t* high(int64_t row) const { return bytes_.data() + row * 2 * in_; }     // [in]
  const int8_t* low(int64_t row) const { return high(row) + in_; }                    // [in]
  const float* scales(int64_t row) const { return scales_.data() + row * blocks(); }  // [blocks]
  // [blocks] scale times the sum of q.
  const float* totals(int64_t row) const { return totals_.data() + row * blocks(); }
  // [blocks, 2] the sums of q over both halves of each block.
  const int32_t* sums(int64_t row) const { return sums_.data() + row * 2 * blocks(); }

 private:
  int64_t rows_ = 0, in_ = 0;
  std::vector<int8_t> bytes_;
  std::vector<float> scales_, totals_;
  std::vector<int32_t> sums_;
};

}  // namespace mneme
