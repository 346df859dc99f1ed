// A matrix of int8 codes, packed for products: panels of 16 outputs, each a row of groups of 4
// inputs x 16 outputs (64 bytes, one vector of AVX-512). The layout is the same for every SIMD
// target; outputs and inputs are filled up with zeros to whole panels and groups.
// Tests: int8_product_test.cc.
#pragma once

#include <hwy/aligned_allocator.h>

#include <cstdint>
#include <vector>

#include "mneme/core/checked.h"

namespace mneme {

class PackedInt8 {
 public:
  static constexpr int64_t kPanel = 16;  // outputs
  static constexpr int64_t kGroup = 4;   // inputs
  // Sums of 127 * 127 products fit 32 bits up to here.
  static constexpr int64_t kMostInputs = 133144;

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
  // [groups, kPanel, kGroup]
  const int8_t* panel(int64_t p) const { return codes_.get() + p * panel_bytes(); }
  // The sum of each row's codes, [panels * kPanel].
  const int32_t* sums() const { return sums_.data(); }
  int64_t bytes() const {
    return panels() * panel_bytes() + static_cast<int64_t>(sums_.size() * sizeof(int32_t));
  }

 private:
  int64_t at(int64_t n, int64_t k) const {
    return n / kPanel * panel_bytes() + (k / kGroup * kPanel + n % kPanel) * kGroup + k % kGroup;
  }

  int64_t out_, in_;
  hwy::AlignedFreeUniquePtr<int8_t[]> codes_;
  std::vector<int32_t> sums_;
};

}  // namespace mneme
