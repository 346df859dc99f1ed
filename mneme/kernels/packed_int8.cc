#include "mneme/kernels/packed_int8.h"

#include <algorithm>
#include <cstring>

#include "mneme/core/error.h"

namespace mneme {

PackedInt8::PackedInt8(int64_t out, int64_t in) : out_(out), in_(in) {
  MNEME_CHECK(out >= 0 && in >= 0, "int8 matrix: extents must not be negative, got [", out, ", ",
              in, "]");
  MNEME_CHECK(in <= kMostInputs, "int8 matrix: sums of ", in,
              " products do not fit 32 bits, expected at most ", kMostInputs, " inputs");
  const int64_t bytes = checked_mul(panels(), panel_bytes(), "int8 matrix");
  codes_ = hwy::AllocateAligned<int8_t>(static_cast<size_t>(std::max<int64_t>(1, bytes)));
  MNEME_CHECK(codes_ != nullptr, "int8 matrix: no memory for ", bytes, " bytes");
  std::memset(codes_.get(), 0, static_cast<size_t>(bytes));
  sums_.assign(static_cast<size_t>(panels() * kPanel), 0);
}

void PackedInt8::set_row(int64_t n, const int8_t* codes) {
  int32_t sum = 0;
  for (int64_t k = 0; k < in_; ++k) {
    codes_[static_cast<size_t>(at(n, k))] = codes[k];
    sum += codes[k];
  }
  sums_[static_cast<size_t>(n)] = sum;
}

void PackedInt8::get_row(int64_t n, int8_t* codes) const {
  for (int64_t k = 0; k < in_; ++k) codes[k] = code(n, k);
}

}  // namespace mneme
