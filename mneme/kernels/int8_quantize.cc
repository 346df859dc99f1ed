#include "mneme/kernels/int8_quantize.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <limits>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/core/grown.h"
#include "mneme/kernels/row_convert.h"
#include "mneme/kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "mneme/kernels/int8_quantize.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = HWY_CAPPED(float, 16);

// codes [n] = round(x * factor) + bias, 0 + bias where |x| >= limit.
void Codes(const float* HWY_RESTRICT x, int64_t n, float factor, float limit, int32_t bias,
           uint8_t* HWY_RESTRICT codes) {
  const Floats d;
  const hn::RebindToSigned<Floats> di;
  const hn::Rebind<int8_t, Floats> d8;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto v = hn::LoadU(d, x + i);
    const auto kept = hn::IfThenElseZero(hn::Lt(hn::Abs(v), hn::Set(d, limit)), v);
    const auto code = hn::NearestInt(hn::Mul(kept, hn::Set(d, factor)));
    // The two's complement of code + 128 is the code with its sign bit turned.
    const auto biased = hn::Xor(code, hn::Set(di, bias == 0 ? 0 : -128));
    hn::StoreU(hn::DemoteTo(d8, biased), d8, reinterpret_cast<int8_t*>(codes) + i);
  }
  for (; i < n; ++i) {
    const float kept = std::abs(x[i]) < limit ? x[i] : 0.0f;
    codes[i] = static_cast<uint8_t>(static_cast<int32_t>(std::nearbyint(kept * factor)) + bias);
  }
}

// The largest magnitude below `limit`.
float AbsmaxBelow(const float* HWY_RESTRICT x, int64_t n, float limit) {
  const Floats d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  auto largest = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto magnitude = hn::Abs(hn::LoadU(d, x + i));
    const auto kept = hn::IfThenElseZero(hn::Lt(magnitude, hn::Set(d, limit)), magnitude);
    largest = hn::Max(largest, kept);
  }
  float absmax = hn::GetLane(hn::MaxOfLanes(d, largest));
  for (; i < n; ++i) {
    if (std::abs(x[i]) < limit) absmax = std::max(absmax, std::abs(x[i]));
  }
  return absmax;
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme {

HWY_EXPORT(Codes);
HWY_EXPORT(AbsmaxBelow);

namespace {

constexpr float kNoLimit = std::numeric_limits<float>::infinity();

void write_codes(const float* x, int64_t n, float absmax, float limit, int32_t bias,
                 uint8_t* codes) {
  const float factor = 127.0f / absmax;
  if (absmax == 0) {
    std::fill_n(codes, n, static_cast<uint8_t>(bias));
  } else if (std::isfinite(factor)) {
    HWY_DYNAMIC_DISPATCH(Codes)(x, n, factor, limit, bias, codes);
  } else {  // 127 / absmax of a subnormal absmax is beyond float32
    for (int64_t i = 0; i < n; ++i) {
      const double kept = std::abs(x[i]) < limit ? static_cast<double>(x[i]) : 0.0;
      const auto code = static_cast<int32_t>(std::nearbyint(kept * (127.0 / absmax)));
      codes[i] = static_cast<uint8_t>(code + bias);
    }
  }
}

}  // namespace

int64_t Int8Activations::rows_per_task(int64_t rows, int64_t in, int threads) {
  constexpr int64_t kElements = 16 << 10;
  const int64_t enough = std::max<int64_t>(1, kElements / std::max<int64_t>(1, in));
  return std::max(enough, ceil_div(rows, int64_t{4} * threads));
}

void int8_quantize_row(const float* x, int64_t n, float absmax, int8_t* codes) {
  write_codes(x, n, absmax, kNoLimit, 0, reinterpret_cast<uint8_t*>(codes));
}

float int8_absmax(const float* x, int64_t n, const std::string& name, const char* what,
                  int64_t row) {
  const uint32_t bits = largest_magnitude(x, n);
  if (bits < 0x7f800000u) return std::bit_cast<float>(bits);
  int64_t at = 0;
  while (std::isfinite(x[at])) ++at;
  fail(name, ": expected finite ", what, ", got ", x[at], " in row ", row, ", column ", at);
}

void Int8Activations::quantize(const float* x, int64_t rows, int64_t x_stride, int64_t in,
                               double threshold, const std::string& name, ThreadPool& pool) {
  rows_ = rows;
  in_ = in;
  const int64_t padded = stride();
  grown(codes_, rows * padded);
  grown(absmax_, rows);
  outliers_.clear();
  const float limit = threshold > 0 ? static_cast<float>(threshold) : kNoLimit;
  const int64_t step = rows_per_task(rows, in, pool.size());
  const int64_t tasks = ceil_div(rows, step);
  std::atomic<bool> any{false};
  is_outlier_.assign(static_cast<size_t>(in), 0);
  pool.run(tasks, [&](int64_t task, int) {
    for (int64_t m = task * step; m < std::min(rows, (task + 1) * step); ++m) {
      const float* row = x + m * x_stride;
      const float absmax = int8_absmax(row, in, name, "activations", m);
      absmax_[static_cast<size_t>(m)] = absmax;
      if (absmax < limit) continue;
      absmax_[static_cast<size_t>(m)] = HWY_DYNAMIC_DISPATCH(AbsmaxBelow)(row, in, limit);
      any.store(true, std::memory_order_relaxed);
      for (int64_t k = 0; k < in; ++k) {
        // Several rows may mark one column at a time.
        if (std::abs(row[k]) >= limit)
          std::atomic_ref(is_outlier_[static_cast<size_t>(k)]).store(1, std::memory_order_relaxed);
      }
    }
  });
  if (any.load()) {
    for (int64_t k = 0; k < in; ++k) {
      if (is_outlier_[static_cast<size_t>(k)] != 0) outliers_.push_back(static_cast<int32_t>(k));
    }
  }
  const auto outliers = static_cast<int64_t>(outliers_.size());
  grown(outlier_values_, rows * outliers);
  pool.run(tasks, [&](int64_t task, int) {
    for (int64_t m = task * step; m < std::min(rows, (task + 1) * step); ++m) {
      const float* row = x + m * x_stride;
      uint8_t* codes = codes_.data() + m * padded;
      write_codes(row, in, absmax_[static_cast<size_t>(m)], limit, 128, codes);
      std::fill(codes + in, codes + padded, uint8_t{128});
      float* values = outlier_values_.data() + m * outliers;
      for (int64_t i = 0; i < outliers; ++i) {
        const int32_t column = outliers_[static_cast<size_t>(i)];
        codes[column] = 128;
        values[i] = row[column];
      }
    }
  });
}

}  // namespace mneme
#endif
