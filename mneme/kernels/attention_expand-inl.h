// Pages as floats, per SIMD target: the tables of scales and biases, and keys and values written
// out once for many queries. Expanded codes are the very floats that the readers of
// attention_product-inl.h deliver. Tests: paged_attention_test.cc.
#if defined(MNEME_KERNELS_ATTENTION_EXPAND_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_KERNELS_ATTENTION_EXPAND_INL_H_
#undef MNEME_KERNELS_ATTENTION_EXPAND_INL_H_
#else
#define MNEME_KERNELS_ATTENTION_EXPAND_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>

#include "mneme/core/half.h"
#include "mneme/kernels/attention_product-inl.h"
#include "mneme/kernels/attention_tile.h"

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// scales [groups, 64] and biases' = bias + centre * scale, for codes stored as code - centre. Slots
// past `rows` hold anything: they become 0, for a weight of 0 times NaN would not be 0.
HWY_INLINE void load_tables(const RowFormat& format, const std::byte* scales_in,
                            const std::byte* biases_in, int64_t groups, int64_t rows, int64_t ahead,
                            float* scales, float* biases) {
  const Floats d;
  const hn::RebindToSigned<Floats> di;
  const hn::Rebind<hwy::float16_t, Floats> dh;
  const FloatVector centre = hn::Set(d, format.encoding == RowEncoding::kQ8 ? 128.0f : 8.0f);
  for (int64_t i = 0; i < groups * kPageRows; i += 32) {
    fetch_line(scales_in + i * 2, ahead);
    fetch_line(biases_in + i * 2, ahead);
  }
  for (int64_t i = 0; i < groups * kPageRows; i += kLanes) {
    FloatVector scale, bias;
    if (format.f32_scales) {
      scale = hn::LoadU(d, reinterpret_cast<const float*>(scales_in) + i);
      bias = hn::LoadU(d, reinterpret_cast<const float*>(biases_in) + i);
    } else {
      scale =
          hn::PromoteTo(d, hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(scales_in) + i));
      bias =
          hn::PromoteTo(d, hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(biases_in) + i));
    }
    const auto slot = hn::Iota(di, static_cast<int32_t>(i % kPageRows));
    const auto used = hn::RebindMask(d, hn::Lt(slot, hn::Set(di, static_cast<int32_t>(rows))));
    hn::StoreU(hn::IfThenElseZero(used, scale), d, scales + i);
    hn::StoreU(hn::IfThenElseZero(used, hn::MulAdd(centre, scale, bias)), d, biases + i);
  }
}

// keys [dim, 64]
template <class B>
HWY_INLINE void expand_keys(const B& b, int64_t dim, float* keys) {
  const Floats d;
  for (int64_t k = 0; k < dim; k += B::kStep) {
    for (int64_t column = 0; column < kPageRows; column += kTileColumns) {
      float* to = keys + k * kPageRows + column;
      hn::StoreU(b.template read<0, 0>(k, column), d, to);
      hn::StoreU(b.template read<0, 1>(k, column), d, to + kLanes);
      if constexpr (kTileVectors > 2) {
        hn::StoreU(b.template read<0, 2>(k, column), d, to + 2 * kLanes);
        hn::StoreU(b.template read<0, 3>(k, column), d, to + 3 * kLanes);
      }
      if constexpr (B::kStep == 2) {
        to += kPageRows;
        hn::StoreU(b.template read<1, 0>(k, column), d, to);
        hn::StoreU(b.template read<1, 1>(k, column), d, to + kLanes);
        if constexpr (kTileVectors > 2) {
          hn::StoreU(b.template read<1, 2>(k, column), d, to + 2 * kLanes);
          hn::StoreU(b.template read<1, 3>(k, column), d, to + 3 * kLanes);
        }
      }
    }
  }
}

inline float tail_value(const F32Reader& b, int64_t at) { return b.data[at]; }
inline float tail_value(const HalfReader<hwy::float16_t>& b, int64_t at) {
  return f16_to_float(b.data[at].bits);
}
inline float tail_value(const HalfReader<hwy::bfloat16_t>& b, int64_t at) {
  return bf16_to_float(b.data[at].bits);
}

// values [rows, stride], zeros beyond `dim`.
template <class B>
HWY_INLINE void expand_values(const B& b, int64_t rows, int64_t dim, int64_t stride,
                              float* values) {
  const Floats d;
  for (int64_t j = 0; j < rows; ++j) {
    float* to = values + j * stride;
    int64_t column = 0;
    for (; column + 2 * kLanes <= dim; column += 2 * kLanes) {
      hn::StoreU(b.template read<0, 0>(j, column), d, to + column);
      hn::StoreU(b.template read<0, 1>(j, column), d, to + column + kLanes);
    }
    if constexpr (requires { tail_value(b, 0); }) {  // folded formats have no tail
      for (; column < dim; ++column) to[column] = tail_value(b, j * dim + column);
    }
    for (; column < stride; ++column) to[column] = 0;
  }
}

// Quantised pages whose groups do not fill vectors: keys [Dk, 64] and values [rows, stride] as
// scale * code + bias.
inline void expand_unfolded(const RowFormat& format, const PageView& page, int64_t stride,
                            float* keys, float* values) {
  float k[kMaxHeadDim];
  for (int64_t row = 0; row < page.rows; ++row) {
    float* v = values + row * stride;
    read_row(format, page.data, row, k, v);
    std::fill(v + format.v_dim, v + stride, 0.0f);
    for (int64_t i = 0; i < format.k_dim; ++i) keys[i * kPageRows + row] = k[i];
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#endif
