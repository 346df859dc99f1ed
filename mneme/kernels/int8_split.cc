#include "mneme/kernels/int8_split.h"

#include <algorithm>
#include <cmath>

#include "mneme/core/checked.h"
#include "mneme/kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "mneme/kernels/int8_split.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// One vector of digits + 128: high, middle, low, each [lanes of D].
template <class D>
HWY_INLINE void split_vector(D d, const float* HWY_RESTRICT x, float factor,
                             uint8_t* HWY_RESTRICT high, uint8_t* HWY_RESTRICT middle,
                             uint8_t* HWY_RESTRICT low) {
  const hn::RebindToSigned<D> di;
  const hn::Rebind<uint8_t, D> d8;
  const auto bias = hn::Set(di, 128), byte = hn::Set(di, 255);
  const auto q = hn::Add(hn::NearestInt(hn::Mul(hn::LoadU(d, x), hn::Set(d, factor))), bias);
  const auto q1 = hn::Add(hn::ShiftRight<8>(q), bias);
  const auto q2 = hn::Add(hn::ShiftRight<8>(q1), bias);
  hn::StoreU(hn::DemoteTo(d8, hn::And(q, byte)), d8, low);
  hn::StoreU(hn::DemoteTo(d8, hn::And(q1, byte)), d8, middle);
  hn::StoreU(hn::DemoteTo(d8, q2), d8, high);
}

// digits [3, stride] of x [n].
void SplitRow(const float* HWY_RESTRICT x, int64_t n, float factor, uint8_t* HWY_RESTRICT digits,
              int64_t stride) {
  const HWY_CAPPED(float, 16) d;
  const hn::CappedTag<float, 1> one;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    split_vector(d, x + i, factor, digits + i, digits + stride + i, digits + 2 * stride + i);
  }
  for (; i < n; ++i) {
    split_vector(one, x + i, factor, digits + i, digits + stride + i, digits + 2 * stride + i);
  }
}

template <class D>
HWY_INLINE void join_vector(D d, const int32_t* HWY_RESTRICT c, int64_t c_stride, float scale,
                            float* HWY_RESTRICT y) {
  const hn::RebindToSigned<D> di;
  const auto high = hn::ConvertTo(d, hn::LoadU(di, c));
  const auto middle = hn::ConvertTo(d, hn::LoadU(di, c + c_stride));
  const auto low = hn::ConvertTo(d, hn::LoadU(di, c + 2 * c_stride));
  const auto lower = hn::MulAdd(middle, hn::Set(d, 256.0f), low);
  const auto sum = hn::MulAdd(high, hn::Set(d, 65536.0f), lower);
  hn::StoreU(hn::Mul(sum, hn::Set(d, scale)), d, y);
}

void JoinDigitProducts(const int32_t* c, int64_t c_stride, float scale, int64_t count, float* y) {
  const HWY_CAPPED(float, 16) d;
  const hn::CappedTag<float, 1> one;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) join_vector(d, c + i, c_stride, scale, y + i);
  for (; i < count; ++i) join_vector(one, c + i, c_stride, scale, y + i);
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme {

HWY_EXPORT(SplitRow);
HWY_EXPORT(JoinDigitProducts);

namespace {

constexpr float kMostQ = 127.0f * (65536 + 256 + 1);

// The largest power of two by which absmax stays within three digits.
float factor_of(float absmax) {
  if (absmax == 0) return 1;
  int exponent = 0;
  std::frexp(absmax, &exponent);  // absmax < 2^exponent
  // Beyond 2^126 the inverse is no normal number; so small a row keeps fewer bits.
  const float factor = std::ldexp(1.0f, std::min(23 - exponent, 126));
  return absmax * factor > kMostQ ? factor / 2 : factor;
}

}  // namespace

void SplitActivations::split(const float* x, int64_t rows, int64_t x_stride, int64_t in,
                             const std::string& name, ThreadPool& pool) {
  stride_ = Int8Activations::stride_of(in);
  const auto digits = static_cast<size_t>(rows * kDigits * stride_);
  if (digits_.size() < digits) digits_.resize(digits);
  if (scales_.size() < static_cast<size_t>(rows)) scales_.resize(static_cast<size_t>(rows));
  const int64_t step = Int8Activations::rows_per_task(rows, in, pool.size());
  pool.run(ceil_div(rows, step), [&](int64_t task, int) {
    for (int64_t m = task * step; m < std::min(rows, (task + 1) * step); ++m) {
      const float* row = x + m * x_stride;
      const float factor = factor_of(int8_absmax(row, in, name, "activations", m));
      uint8_t* to = digits_.data() + m * kDigits * stride_;
      HWY_DYNAMIC_DISPATCH(SplitRow)(row, in, factor, to, stride_);
      for (int64_t d = 0; d < kDigits; ++d)
        std::fill(to + d * stride_ + in, to + (d + 1) * stride_, uint8_t{128});
      scales_[static_cast<size_t>(m)] = 1 / factor;
    }
  });
}

void join_digit_products(const int32_t* c, int64_t c_stride, float scale, int64_t count, float* y) {
  HWY_DYNAMIC_DISPATCH(JoinDigitProducts)(c, c_stride, scale, count, y);
}

}  // namespace mneme
#endif
