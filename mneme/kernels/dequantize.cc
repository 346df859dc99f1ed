#include "mneme/kernels/simd_targets.h"
#include "mneme/kernels/weight_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "mneme/kernels/dequantize.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "mneme/kernels/dispatch_type.h"
#include "mneme/kernels/lane_sums-inl.h"
#include "mneme/kernels/quant_superblocks-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {

// kCount blocks that lie behind each other.
template <DType kType, int64_t kCount>
HWY_INLINE void decode_blocks(const uint8_t* HWY_RESTRICT first, float* HWY_RESTRICT out) {
  using D = Decoder<kType>;
  constexpr int64_t kVectors = D::kChunk / kLanes;
  const uint8_t* blocks[kCount];
  for (int64_t n = 0; n < kCount; ++n) blocks[n] = first + n * D::kBytes;
  typename D::template State<kCount> state;
  D::template prepare<kCount>(blocks, state);
  for (int64_t n = 0; n < kCount; ++n) {
    for (int64_t j = 0; j < D::kBlock / D::kChunk; ++j) {
      VF w[kVectors];
      D::decode(blocks[n], state, n, j, w);
      HWY_UNROLL(32)
      for (int64_t i = 0; i < kVectors; ++i) {
        hn::StoreU(w[i], DF(), out + n * D::kBlock + j * D::kChunk + i * kLanes);
      }
    }
  }
}

template <DType kType>
void expand_typed(const WeightRows& weight, int64_t first, int64_t last, float* out, int64_t stride,
                  bool padded) {
  using D = Decoder<kType>;
  const int64_t blocks = weight.in / D::kBlock, rest = weight.in % D::kBlock;
  for (int64_t n = first; n < last; ++n) {
    const uint8_t* HWY_RESTRICT row = weight.row(n);
    float* HWY_RESTRICT to = out + (n - first) * stride;
    constexpr int64_t kAtOnce = D::kBlock == kChunkElements ? 4 : 1;
    int64_t b = 0;
    for (; b + kAtOnce <= blocks; b += kAtOnce) {
      decode_blocks<kType, kAtOnce>(row + b * D::kBytes, to + b * D::kBlock);
    }
    for (; b < blocks; ++b) decode_blocks<kType, 1>(row + b * D::kBytes, to + b * D::kBlock);
    if constexpr (D::kBlock == kChunkElements) {
      if (rest != 0) {
        alignas(64) uint8_t bytes[D::kBytes] = {};
        alignas(64) float values[kChunkElements];
        memcpy(bytes, row + blocks * D::kBytes,
               static_cast<size_t>(rest * D::kBytes / kChunkElements));
        decode_blocks<kType, 1>(bytes, values);
        memcpy(to + blocks * D::kBlock, values,
               static_cast<size_t>(padded ? kChunkElements : rest) * sizeof(float));
      }
    }
  }
}

void ExpandRows(const WeightRows& weight, int64_t first, int64_t last, float* out, int64_t stride,
                bool padded) {
  dispatch_type(weight.dtype, [&](auto type) {
    expand_typed<decltype(type)::value>(weight, first, last, out, stride, padded);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme {

HWY_EXPORT(ExpandRows);

void expand_rows(const WeightRows& weight, int64_t first, int64_t last, float* out, int64_t stride,
                 bool padded) {
  HWY_DYNAMIC_DISPATCH(ExpandRows)(weight, first, last, out, stride, padded);
}

}  // namespace mneme
#endif
