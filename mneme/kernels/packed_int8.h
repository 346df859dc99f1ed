// A matrix of int8 codes, packed for products: panels of 16 outputs, in which a group of 4 inputs x
// 16 outputs is 64 bytes, one vector of AVX-512. Four panels make a block (the last one fewer),
// whose groups lie side by side: a product with few rows reads the matrix as one stream. The layout
// is the same for every SIMD target; outputs and inputs are filled up with zeros to whole panels
// and groups. Tests: int8_product_test.cc.
#pragma once

#include <hwy/aligned_allocator.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "mneme/core/checked.h"

namespace mneme {

class PackedInt8 {
 public:
  static constexpr int64_t kPanel = 16;  // outputs
  static constexpr int64_t kGroup = 4;   // inputs
  static constexpr int64_t kBlock = 4;   // panels
  // Sums of products of -128 with -128 fit 32 bits up to here.
  static constexpr int64_t kMostInputs = 131071;

  // All codes 0. Throws Error on extents below 0 or more than kMostInputs inputs.
  PackedInt8(int64_t out, int64_t in);

  // codes [in]. Different rows may be set by different threads.
  void set_row(int64_t n, const int8_t* codes);
  void get_row(int64_t n, int8_t* codes) const;

  int64_t out() const { return out_; }
  int64_t in() const { return in_; }
  int64_t panels() const { return ceil_div(out_, kPanel); }
  int64_t groups() const { return ceil_div(in_, kGroup); }
  int64_t panel_bytes() const { return groups() * kPanel * kGroup; }
  // The groups of a panel, [kPanel, kGroup] each, group_stride(p) bytes apart; the next panel of
  // its block lies 64 bytes on.
  const int8_t* panel(int64_t p) const {
    return codes_.get() + p / kBlock * kBlock * panel_bytes() + p % kBlock * kPanel * kGroup;
  }
  int64_t group_stride(int64_t p) const {
    return std::min(kBlock, panels() - p / kBlock * kBlock) * kPanel * kGroup;
  }
  int8_t code(int64_t n, int64_t k) const { return codes_[static_cast<size_t>(at(n, k))]; }
  // The sum of each row's codes, [panels * kPanel].
  const int32_t* sums() const { return sums_.data(); }
  int64_t bytes() const {
    return panels() * panel_bytes() + static_cast<int64_t>(sums_.size() * sizeof(int32_t));
  }

 private:
  int64_t at(int64_t n, int64_t k) const {
    const int64_t p = n / kPanel;
    return panel(p) - codes_.get() + k / kGroup * group_stride(p) + n % kPanel * kGroup +
           k % kGroup;
  }

  int64_t out_, in_;
  hwy::AlignedFreeUniquePtr<int8_t[]> codes_;
  std::vector<int32_t> sums_;
};

}  // namespace mneme
