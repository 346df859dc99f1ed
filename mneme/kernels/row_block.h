// A block of key and value rows of one KV head, as grouped_attention.h reads it: keys transposed, so
// that scores are accumulated over dimensions in one fixed order with rows in the lanes; values as
// rows. Rows are written one after the other and may be written again.
//
//   keys [k_dim, rows] | values [rows, v_dim] | room for a vector to be read past the end
//
// Tests: grouped_attention_test.cc.
#pragma once

#include <cstddef>
#include <cstdint>

#include "mneme/core/dtype.h"

namespace mneme {

struct RowBlock {
  DType dtype = DType::kF32;  // of what is stored: kF32 or kF16
  int64_t rows = 0;
  int64_t k_dim = 0;
  int64_t v_dim = 0;  // 0: keys alone

  // Throws Error naming the value that cannot be.
  void validate() const;
  int64_t element_bytes() const { return dtype == DType::kF16 ? 2 : 4; }
  int64_t key_bytes() const { return k_dim * rows * element_bytes(); }
  // Multiples of 64.
  int64_t bytes() const;

  // Throws Error on a number that cannot be stored (NaN, infinity, too large for f16).
  void write_row(int64_t row, const float* k, const float* v, std::byte* block) const;
  // The key [k_dim] of a row as it is stored.
  void read_key(const std::byte* block, int64_t row, float* k) const;
  // Whether every number of the first `count` rows is finite.
  bool finite(const std::byte* block, int64_t count) const;
};

}  // namespace mneme
