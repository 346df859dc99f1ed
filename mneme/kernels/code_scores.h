// Dot products of one query with many rows of 8- or 4-bit codes (affine_quant.h: x ~ scale * code +
// bias in groups), in integers: what a policy or a retriever ranks rows with.
//
//   score[r] = sum over groups g of  u_g * (scale[r, g] * sum(code * c) + bias[r, g] * sum(c))
//
// c are the query's own 8-bit codes and u_g its unit in group g: the largest magnitude there / 127.
// So a score is the exact product of the dequantised row with a query whose every element is off by
// at most u_g / 2: it differs from the unquantised query's by at most sum over i of |row[i]| * u /
// 2, besides float32 rounding. Integer sums are exact for groups of up to 66,000 elements.
//
// A score is a function of its row and the query: the same bits whatever the number of rows and
// threads. Tests: code_scores_test.cc (float64 twin, every target; the bound above).
#pragma once

#include <cstdint>
#include <vector>

#include "mneme/core/thread_pool.h"

namespace mneme {

// Rows as affine_quantize_row makes them, one after the other.
struct CodeRows {
  const uint32_t* words = nullptr;  // [rows, dim * bits / 32]
  const float* scales = nullptr;    // [rows, dim / group]
  const float* biases = nullptr;    // [rows, dim / group]
  int64_t rows = 0;
  int64_t dim = 0;     // a multiple of group
  int bits = 8;        // 8 or 4
  int64_t group = 64;  // a multiple of 32 / bits, at most 65,536
};

// A query prepared for rows of one shape; set() again reuses its memory.
class CodeQuery {
 public:
  // query [dim], finite. Throws Error on values or shapes that do not fit.
  void set(const float* query, int64_t dim, int bits, int64_t group);

  int64_t dim() const { return dim_; }
  int bits() const { return bits_; }
  int64_t group() const { return group_; }
  // [dim] codes -127..127; for 4 bits in the order of a row's nibbles: of each group the even
  // elements, then the odd ones.
  const int8_t* codes() const { return codes_.data(); }
  const float* units() const { return units_.data(); }  // [dim / group]
  const float* sums() const { return sums_.data(); }    // [dim / group] sum of the codes

 private:
  int64_t dim_ = 0, group_ = 0;
  int bits_ = 0;
  std::vector<int8_t> codes_;
  std::vector<float> units_, sums_;
};

// scores [rows]. Throws Error when query and rows differ in shape.
void score_rows(const CodeRows& rows, const CodeQuery& query, float* scores, ThreadPool& pool);

}  // namespace mneme
