// Symmetric absmax quantisation of float32 rows to 127 levels each side, as LLM.int8() does it
// (Dettmers et al. 2022, section 3, and bitsandbytes): code = round(x * (127 / absmax)), half to
// even on the float32 product; -128 is never produced.
//
// Activations are split first: a column is an outlier column when any row of the call holds a value
// of magnitude >= threshold there. A row's absmax is taken over its values below the threshold,
// those in outlier columns included; codes are 0 in outlier columns and at values at or above the
// threshold. Tests: int8_quantize_test.cc (naive twin, the paper page's examples),
// int8_golden_test.cc.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mneme/core/thread_pool.h"

namespace mneme {

// codes [n] = round(x * (127 / absmax)); all 0 when absmax is 0. |x| <= absmax, both finite.
void int8_quantize_row(const float* x, int64_t n, float absmax, int8_t* codes);

// The largest magnitude of x [n], row `row` of the `what` ("weights") of layer `name`. Throws Error
// with all three when a value is not finite.
float int8_absmax(const float* x, int64_t n, const std::string& name, const char* what,
                  int64_t row);

// The activations of one call, quantised row by row. Buffers grow and are kept, so one object used
// again and again allocates nothing.
class Int8Activations {
 public:
  // Columns between two rows of biased_codes(): `in` rounded up to whole groups of 4.
  static constexpr int64_t stride_of(int64_t in) { return (in + 3) / 4 * 4; }
  // Rows of a task: enough work to be worth handing out.
  static int64_t rows_per_task(int64_t rows, int64_t in, int threads);
  // Bytes held after quantize() of that many rows without outlier columns.
  static int64_t bytes_of(int64_t rows, int64_t in) {
    return rows * (stride_of(in) + static_cast<int64_t>(sizeof(float))) + in;
  }

  // x [rows, in], row stride x_stride >= in. threshold 0: no outliers, every value counts. Throws
  // Error naming `name` when a value is not finite.
  void quantize(const float* x, int64_t rows, int64_t x_stride, int64_t in, double threshold,
                const std::string& name, ThreadPool& pool);

  int64_t rows() const { return rows_; }
  int64_t in() const { return in_; }
  int64_t stride() const { return stride_of(in_); }
  // Codes + 128, [rows, stride]; 128 (code 0) behind `in`: the form that the product takes.
  const uint8_t* biased_codes() const { return codes_.data(); }
  int8_t code(int64_t row, int64_t column) const {
    return static_cast<int8_t>(codes_[static_cast<size_t>(row * stride() + column)] - 128);
  }
  // The absmax of each row, [rows] (SCA of the paper: not divided by 127).
  const float* absmax() const { return absmax_.data(); }
  // Ascending.
  const std::vector<int32_t>& outlier_columns() const { return outliers_; }
  // x of the outlier columns, [rows, outlier_columns().size()].
  const float* outlier_values() const { return outlier_values_.data(); }

 private:
  int64_t rows_ = 0, in_ = 0;
  std::vector<uint8_t> codes_;
  std::vector<float> absmax_;
  std::vector<uint8_t> is_outlier_;  // [in]
  std::vector<int32_t> outliers_;
  std::vector<float> outlier_values_;
};

}  // namespace mneme
