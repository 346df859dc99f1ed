#include <algorithm>

#include "mneme/kernels/simd_targets.h"
#include "mneme/kernels/weight_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "mneme/kernels/gemm.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "mneme/kernels/lane_sums-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {

// Accumulators of one tile: 4 x 6 fill 24 of 32 vector registers, 4 x 3 12 of 16.
constexpr int64_t kTileRows = 4;
constexpr int64_t kTileOuts = kLanes >= 16 ? 6 : 3;

template <int64_t kRows, int64_t kOuts>
HWY_INLINE void accumulate(const float* HWY_RESTRICT x, int64_t x_stride,
                           const float* HWY_RESTRICT w, int64_t w_stride, int64_t count,
                           VF* HWY_RESTRICT acc) {
  for (int64_t k = 0; k < count; k += kLanes) {
    VF xv[kRows];
    HWY_UNROLL(4)
    for (int64_t m = 0; m < kRows; ++m) xv[m] = hn::LoadU(DF(), x + m * x_stride + k);
    HWY_UNROLL(6)
    for (int64_t n = 0; n < kOuts; ++n) {
      const VF wv = hn::Load(DF(), w + n * w_stride + k);
      HWY_UNROLL(4)
      for (int64_t m = 0; m < kRows; ++m) {
        acc[m * kOuts + n] = hn::MulAdd(wv, xv[m], acc[m * kOuts + n]);
      }
    }
  }
}

// One tile of y from x [kRows] and w [kOuts] expanded rows; tail [kRows, 32] holds the last
// elements of x where `in` is no multiple of 32.
template <int64_t kRows, int64_t kOuts>
void tile(const float* HWY_RESTRICT x, int64_t x_stride, const float* HWY_RESTRICT tail,
          const float* HWY_RESTRICT w, int64_t w_stride, int64_t in, float* HWY_RESTRICT y,
          int64_t y_stride) {
  VF acc[kRows * kOuts];
  HWY_UNROLL(24)
  for (int64_t i = 0; i < kRows * kOuts; ++i) acc[i] = hn::Zero(DF());
  const int64_t whole = in / kChunkElements * kChunkElements;
  accumulate<kRows, kOuts>(x, x_stride, w, w_stride, whole, acc);
  if (whole != in) {
    accumulate<kRows, kOuts>(tail, kChunkElements, w + whole, w_stride, kChunkElements, acc);
  }
  alignas(64) float sums[kRows * kOuts + kLanes];
  lane_sums<kRows * kOuts>(acc, sums);
  HWY_UNROLL(4)
  for (int64_t m = 0; m < kRows; ++m) {
    HWY_UNROLL(6)
    for (int64_t n = 0; n < kOuts; ++n) y[m * y_stride + n] = sums[sum_slot(m * kOuts + n)];
  }
}

// All outputs of one tile of rows: the x rows stay in the first-level cache, the panel in the
// second.
template <int64_t kRows>
void tile_row(const Product& product, int64_t row, int64_t first, int64_t last,
              const float* HWY_RESTRICT panel, int64_t stride) {
  const int64_t in = product.weight.in;
  const float* HWY_RESTRICT x = product.x + row * product.x_stride;
  float* HWY_RESTRICT y = product.y + row * product.y_stride + first;
  alignas(64) float tail[kRows * kChunkElements] = {};
  const int64_t rest = in % kChunkElements;
  if (rest != 0) {
    for (int64_t m = 0; m < kRows; ++m) {
      memcpy(tail + m * kChunkElements, x + m * product.x_stride + in - rest,
             static_cast<size_t>(rest) * sizeof(float));
    }
  }
  const int64_t outs = last - first;
  int64_t n = 0;
  for (; n + kTileOuts <= outs; n += kTileOuts) {
    tile<kRows, kTileOuts>(x, product.x_stride, tail, panel + n * stride, stride, in, y + n,
                           product.y_stride);
  }
  for (; n + 2 <= outs; n += 2) {
    tile<kRows, 2>(x, product.x_stride, tail, panel + n * stride, stride, in, y + n,
                   product.y_stride);
  }
  if (n < outs) {
    tile<kRows, 1>(x, product.x_stride, tail, panel + n * stride, stride, in, y + n,
                   product.y_stride);
  }
}

void MultiplyPanel(const Product& product, int64_t first, int64_t last, const float* panel,
                   int64_t stride) {
  int64_t row = 0;
  for (; row + kTileRows <= product.rows; row += kTileRows) {
    tile_row<kTileRows>(product, row, first, last, panel, stride);
  }
  switch (product.rows - row) {
    case 3:
      return tile_row<3>(product, row, first, last, panel, stride);
    case 2:
      return tile_row<2>(product, row, first, last, panel, stride);
    case 1:
      return tile_row<1>(product, row, first, last, panel, stride);
    default:
      return;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme {

HWY_EXPORT(MultiplyPanel);

void multiply_panel(const Product& product, int64_t first, int64_t last, const float* panel,
                    int64_t stride) {
  HWY_DYNAMIC_DISPATCH(MultiplyPanel)(product, first, last, panel, stride);
}

}  // namespace mneme
#endif
