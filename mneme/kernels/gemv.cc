// Products of one to three rows of floats with a weight matrix in its file form, decoded on the way:
// y [rows, out] = x [rows, in] W^T, W [out, in] of any weight type (weight_rows.h declares it,
// matmul.h describes it). Every output sums its inputs in the same order whatever the number of rows,
// of outputs at once and of threads. Bound by reading W: what is read lies in one stream, or is
// fetched ahead. Tests: matmul_test.cc, against the float64 product of the decoded weights.
#include <type_traits>

#include "mneme/kernels/simd_targets.h"
#include "mneme/kernels/weight_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "mneme/kernels/gemv.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "mneme/kernels/dispatch_type.h"
#include "mneme/kernels/lane_sums-inl.h"
#include "mneme/kernels/quant_superblocks-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {

// acc[n * kRows + m] += one block of weight rows n times the same elements of x rows m.
template <DType kType, int64_t kRows, int64_t kOuts, typename State>
HWY_INLINE void accumulate_block(const uint8_t* const* HWY_RESTRICT rows, int64_t offset,
                                 const State& state, const float* HWY_RESTRICT x, int64_t x_stride,
                                 VF* HWY_RESTRICT acc) {
  using D = Decoder<kType>;
  constexpr int64_t kVectors = D::kChunk / kLanes;
  for (int64_t j = 0; j < D::kBlock / D::kChunk; ++j) {
    VF xv[kRows * kVectors];
    HWY_UNROLL(3)
    for (int64_t m = 0; m < kRows; ++m) {
      HWY_UNROLL(32)
      for (int64_t i = 0; i < kVectors; ++i) {
        xv[m * kVectors + i] = hn::LoadU(DF(), x + m * x_stride + j * D::kChunk + i * kLanes);
      }
    }
    HWY_UNROLL(8)
    for (int64_t n = 0; n < kOuts; ++n) {
      VF w[kVectors];
      D::decode(rows[n] + offset, state, n, j, w);
      HWY_UNROLL(3)
      for (int64_t m = 0; m < kRows; ++m) {
        HWY_UNROLL(32)
        for (int64_t i = 0; i < kVectors; ++i) {
          acc[n * kRows + m] = hn::MulAdd(w[i], xv[m * kVectors + i], acc[n * kRows + m]);
        }
      }
    }
  }
}

// y[0..kRows, first..first + kOuts).
template <DType kType, int64_t kRows, int64_t kOuts>
HWY_INLINE void few_rows_tile(const Product& product, int64_t first) {
  using D = Decoder<kType>;
  const WeightRows& weight = product.weight;
  const float* HWY_RESTRICT x = product.x;
  const int64_t blocks = weight.in / D::kBlock, rest = weight.in % D::kBlock;
  VF acc[kRows * kOuts];
  HWY_UNROLL(16)
  for (int64_t i = 0; i < kRows * kOuts; ++i) acc[i] = hn::Zero(DF());
  const uint8_t* at[kOuts];
  HWY_UNROLL(8)
  for (int64_t n = 0; n < kOuts; ++n) at[n] = weight.row(first + n);
  constexpr int64_t kAhead = D::kAhead;
  typename D::template State<kOuts> states[kAhead];
  for (int64_t first_block = 0; first_block < blocks; first_block += kAhead) {
    const int64_t count = HWY_MIN(kAhead, blocks - first_block);
    for (int64_t b = 0; b < count; ++b) {
      const uint8_t* heads[kOuts];
      HWY_UNROLL(8)
      for (int64_t n = 0; n < kOuts; ++n) heads[n] = at[n] + (first_block + b) * D::kBytes;
      D::template prepare<kOuts>(heads, states[b]);
    }
    for (int64_t b = 0; b < count; ++b) {
      if constexpr (kOuts > 1) {
        // What the next tile reads here: streams that end with every row are none to the hardware.
        HWY_UNROLL(8)
        for (int64_t n = 0; n < kOuts; ++n) {
          __builtin_prefetch(at[n] + (first_block + b) * D::kBytes + kOuts * weight.row_bytes);
        }
      }
      accumulate_block<kType, kRows, kOuts>(at, (first_block + b) * D::kBytes, states[b],
                                            x + (first_block + b) * D::kBlock, product.x_stride,
                                            acc);
    }
  }
  if constexpr (D::kBlock == kChunkElements) {
    if (rest != 0) {
      alignas(64) uint8_t bytes[kOuts][D::kBytes] = {};
      alignas(64) float tail[kRows][kChunkElements] = {};
      for (int64_t n = 0; n < kOuts; ++n) {
        memcpy(bytes[n], at[n] + blocks * D::kBytes,
               static_cast<size_t>(rest * D::kBytes / kChunkElements));
        at[n] = bytes[n];
      }
      for (int64_t m = 0; m < kRows; ++m) {
        memcpy(tail[m], x + m * product.x_stride + blocks * D::kBlock,
               static_cast<size_t>(rest) * sizeof(float));
      }
      accumulate_block<kType, kRows, kOuts>(at, 0, states[0], tail[0], kChunkElements, acc);
    }
  }
  alignas(64) float sums[kRows * kOuts + kLanes];
  lane_sums<kRows * kOuts>(acc, sums);
  HWY_UNROLL(8)
  for (int64_t n = 0; n < kOuts; ++n) {
    HWY_UNROLL(3)
    for (int64_t m = 0; m < kRows; ++m) {
      product.y[m * product.y_stride + first + n] = sums[sum_slot(n * kRows + m)];
    }
  }
}

// Enough accumulators to hide the latency of a multiply-add, few enough for the registers. Weights
// that need no decoding come from memory faster than it takes: one stream, which the hardware
// fetches ahead, is then twice as fast as several.
template <DType kType>
constexpr int64_t outs_at_once(int64_t rows) {
  constexpr bool kPlain = std::is_base_of_v<FloatLayout, Decoder<kType>>;
  if (kLanes < 8) return kLanes == 1 ? 1 : 2;
  if (kLanes < 16) return 4;
  return kPlain ? 1 : rows == 1 && Decoder<kType>::kBlock == 32 ? 8 : 4;
}

template <DType kType, int64_t kRows>
void few_rows(const Product& product, int64_t first, int64_t last) {
  constexpr int64_t kOuts = outs_at_once<kType>(kRows);
  int64_t n = first;
  for (; n + kOuts <= last; n += kOuts) few_rows_tile<kType, kRows, kOuts>(product, n);
  for (; n < last; ++n) few_rows_tile<kType, kRows, 1>(product, n);
}

void MultiplyFewRows(const Product& product, int64_t first, int64_t last) {
  dispatch_type(product.weight.dtype, [&](auto type) {
    constexpr DType kType = decltype(type)::value;
    if (product.rows == 1) {
      few_rows<kType, 1>(product, first, last);
    } else if (product.rows == 2) {
      few_rows<kType, 2>(product, first, last);
    } else {
      few_rows<kType, 3>(product, first, last);
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme {

HWY_EXPORT(MultiplyFewRows);

void multiply_few_rows(const Product& product, int64_t first, int64_t last) {
  HWY_DYNAMIC_DISPATCH(MultiplyFewRows)(product, first, last);
}

}  // namespace mneme
#endif
