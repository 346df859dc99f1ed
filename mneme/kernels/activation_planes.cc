#include "mneme/kernels/activation_planes.h"

#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "mneme/kernels/activation_planes.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = HWY_CAPPED(float, 16);

// Below this a block counts as zeros: the reciprocal of its scale would overflow.
constexpr float kSmallest = 1e-30f;

void SplitRow(const float* HWY_RESTRICT x, int64_t in, int8_t* HWY_RESTRICT high,
              int8_t* HWY_RESTRICT low, float* HWY_RESTRICT scales, float* HWY_RESTRICT totals,
              int32_t* HWY_RESTRICT sums) {
  const Floats d;
  const hn::RebindToSigned<Floats> di;
  const hn::Rebind<int8_t, Floats> db;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  constexpr int64_t kHalf = kPlaneBlock / 2;
  for (int64_t block = 0; block < in / kPlaneBlock; ++block) {
    const float* HWY_RESTRICT from = x + block * kPlaneBlock;
    // As bits without the sign NaN and infinity are the largest of all.
    auto largest = hn::Zero(di);
    for (int64_t i = 0; i < kPlaneBlock; i += lanes) {
      largest = hn::Max(largest, hn::BitCast(di, hn::Abs(hn::LoadU(d, from + i))));
    }
    const float most = hn::GetLane(hn::BitCast(d, hn::MaxOfLanes(di, largest)));
    const bool finite = most <= 3.4028234663852886e38f;
    const float inverse = finite && most > kSmallest ? kPlaneLimit / most : 0.0f;
    scales[block] = most * (1 / kPlaneLimit);
    if (!finite) scales[block] = most - most;  // NaN
    for (int64_t half = 0; half < 2; ++half) {
      auto sum = hn::Zero(di);
      for (int64_t i = 0; i < kHalf; i += lanes) {
        const int64_t at = block * kPlaneBlock + half * kHalf + i;
        auto v = hn::LoadU(d, x + at);
        if (!finite) v = hn::Zero(d);
        const auto q = hn::NearestInt(hn::Mul(v, hn::Set(d, inverse)));
        const auto upper =
            hn::ShiftRight<kPlaneShift>(hn::Add(q, hn::Set(di, int32_t{1} << (kPlaneShift - 1))));
        const auto lower = hn::Sub(q, hn::ShiftLeft<kPlaneShift>(upper));
        hn::StoreU(hn::DemoteTo(db, upper), db, high + at);
        hn::StoreU(hn::DemoteTo(db, lower), db, low + at);
        sum = hn::Add(sum, q);
      }
      sums[2 * block + half] = hn::GetLane(hn::SumOfLanes(di, sum));
    }
    totals[block] = scales[block] * static_cast<float>(sums[2 * block] + sums[2 * block + 1]);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme {

HWY_EXPORT(SplitRow);

void ActivationPlanes::assign(const float* x, int64_t rows, int64_t x_stride, int64_t in,
                              ThreadPool& pool) {
  MNEME_CHECK(rows >= 0 && in > 0 && in % kPlaneBlock == 0,
              "activation planes: expected rows of a multiple of ", kPlaneBlock, " inputs, got ",
              rows, " rows of ", in);
  MNEME_CHECK(x_stride >= in, "activation planes: rows of ", in,
              " inputs need a stride of at least that, got ", x_stride);
  rows_ = rows;
  in_ = in;
  const auto grow = [&](auto& buffer, int64_t per_row) {
    const auto size = static_cast<size_t>(checked_mul(rows, per_row, "activation planes"));
    if (buffer.size() < size) buffer.resize(size);
  };
  grow(bytes_, 2 * in);
  grow(scales_, blocks());
  grow(totals_, blocks());
  grow(sums_, 2 * blocks());
  // A task of a few rows costs more than handing it over.
  constexpr int64_t kTaskRows = 8;
  pool.run(ceil_div(rows, kTaskRows), [&](int64_t task, int) {
    for (int64_t row = task * kTaskRows; row < std::min(rows, (task + 1) * kTaskRows); ++row) {
      int8_t* high = bytes_.data() + row * 2 * in_;
      HWY_DYNAMIC_DISPATCH(SplitRow)
      (x + row * x_stride, in_, high, high + in_, scales_.data() + row * blocks(),
       totals_.data() + row * blocks(), sums_.data() + row * 2 * blocks());
    }
  });
}

}  // namespace mneme
#endif
