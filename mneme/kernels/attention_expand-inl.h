// Pages as floats, per SIMD target: the tables of scales and biases of codes, and keys and values
// written out once for many queries: the very floats that the readers of attention_product-inl.h
// deliver. Tests: paged_attention_test.cc.
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

// Tables [groups, 64] for codes less their centre: a key is scale * code + bias; a value, whose
// codes are turned where its scale is negative, |scale| * code + bias. Slots past `rows` hold
// anything: they become 0, for a weight of 0 times NaN would not be 0.
HWY_INLINE void load_tables(const RowFormat& format, bool values, const std::byte* scales_in,
                            const std::byte* biases_in, int64_t groups, int64_t rows, int64_t ahead,
                            float* scales, float* biases) {
  const Floats d;
  const hn::RebindToSigned<Floats> di;
  const hn::Rebind<hwy::float16_t, Floats> dh;
  const float middle = format.encoding == RowEncoding::kQ8 ? 128.0f : 8.0f;
  const FloatVector centre = hn::Set(d, middle);
  const FloatVector turned = hn::Set(d, values ? middle - 1 : middle);  // top - centre
  const int64_t bytes = format.f32_scales ? 4 : 2;
  for (int64_t i = 0; i < groups * kPageRows * bytes; i += 64) {
    fetch_line(scales_in + i, ahead);
    fetch_line(biases_in + i, ahead);
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
    const FloatVector zero = hn::IfThenElse(hn::Lt(scale, hn::Zero(d)), turned, centre);
    bias = hn::MulAdd(zero, scale, bias);
    if (values) scale = hn::Abs(scale);
    if (rows < kPageRows) {
      const auto slot = hn::Iota(di, static_cast<int32_t>(i % kPageRows));
      const auto used = hn::RebindMask(d, hn::Lt(slot, hn::Set(di, static_cast<int32_t>(rows))));
      scale = hn::IfThenElseZero(used, scale);
      bias = hn::IfThenElseZero(used, bias);
    }
    hn::StoreU(scale, d, scales + i);
    hn::StoreU(bias, d, biases + i);
  }
}

// keys [dim, 64]
template <class B>
HWY_INLINE void expand_keys(const B& b, int64_t dim, float* keys) {
  for (int64_t k = 0; k < dim; ++k) {
    for (int64_t column = 0; column < kPageRows; column += kLanes) {
      hn::StoreU(b.template read<0>(k, column), Floats(), keys + k * kPageRows + column);
    }
  }
}

inline float as_float(float x) { return x; }
inline float as_float(hwy::float16_t x) { return f16_to_float(x.bits); }
inline float as_float(hwy::bfloat16_t x) { return bf16_to_float(x.bits); }

// values [rows, stride], zeros beyond `dim`.
template <class B>
HWY_INLINE void expand_values(const B& b, int64_t rows, int64_t dim, int64_t stride,
                              float* values) {
  for (int64_t j = 0; j < rows; ++j) {
    float* to = values + j * stride;
    int64_t column = 0;
    for (; column + kLanes <= dim; column += kLanes) {
      hn::StoreU(b.template read<0>(j, column), Floats(), to + column);
    }
    for (; column < dim; ++column) to[column] = as_float(b.data[j * dim + column]);
    for (; column < stride; ++column) to[column] = 0;
  }
}

// Quantised pages whose groups do not fill vectors: keys [Dk, 64] and values [rows, stride] as
// scale * code + bias.
inline void expand_code_keys(const RowFormat& format, const PageView& page, float* keys) {
  float k[kMaxHeadDim];
  for (int64_t row = 0; row < page.rows; ++row) {
    read_row(format, page.data, row, k, nullptr);
    for (int64_t i = 0; i < format.k_dim; ++i) keys[i * kPageRows + row] = k[i];
  }
}

inline void expand_code_values(const RowFormat& format, const PageView& page, int64_t stride,
                               float* values) {
  for (int64_t row = 0; row < page.rows; ++row) {
    float* v = values + row * stride;
    read_row(format, page.data, row, nullptr, v);
    std::fill(v + format.v_dim, v + stride, 0.0f);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#endif
