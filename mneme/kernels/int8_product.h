// Products with a packed int8 matrix w [out, in], panel by panel:
//
//   integers: c = a w^T, a codes or digits of activations, accumulated exactly in int32.
//   floats:   y = x w^T over a choice of columns (the outliers of LLM.int8()), whose codes are
//   turned
//             into floats, or with float columns of the same layout.
//
// Integers: a + 128 (unsigned) times w by VPDPBUSD where the machine has AVX512_VNNI, 128 * the
// row's sum of w taken off afterwards; pairs of 16-bit products (PMADDWD) on other x86; 32-bit
// products elsewhere. Floats: each y[m, n] is one chain of fused multiply-adds over the columns in
// ascending order, so a row gets the same bits alone and among others. Tests: int8_product_test.cc
// against naive loops, on every SIMD target and with VNNI left out.
#pragma once

#include <cstdint>

#include "mneme/kernels/packed_int8.h"

namespace mneme {

// Panels a task takes together at most.
inline constexpr int64_t kPanelBlock = PackedInt8::kBlock;
inline constexpr int64_t kBlockOutputs = kPanelBlock * PackedInt8::kPanel;

// c [rows, c_stride >= 16 * (last - first)] = a w^T for panels first..last; biased [rows, a_stride]
// holds a + 128 with 128 behind `in` up to whole groups.
void int8_product(const uint8_t* biased, int64_t rows, int64_t a_stride, const PackedInt8& w,
                  int64_t first, int64_t last, int32_t* c, int64_t c_stride);

// Codes of the `columns` inputs listed in `chosen`, of panels first..last, as floats:
// to [columns, 16 * (last - first)].
void expand_panels(const PackedInt8& w, int64_t first, int64_t last, const int32_t* chosen,
                   int64_t columns, float* to);

// y [rows, y_stride] = x columns^T: x [rows, x_stride >= count], columns [count, width], width a
// multiple of 16. Zeros where count is 0.
void float_product(const float* x, int64_t rows, int64_t x_stride, const float* columns,
                   int64_t count, int64_t width, float* y, int64_t y_stride);

// One output of a quantised layer from its parts, over rows of `count` elements:
//   y = c * (row_scale * scales) + f * float_scales + bias
// c or f null: left out; float_scales null: 1; bias null: 0.
struct Int8Epilogue {
  const float* scales = nullptr;
  const float* float_scales = nullptr;
  const float* bias = nullptr;
};
void int8_epilogue(const int32_t* c, const float* f, float row_scale, const Int8Epilogue& parts,
                   int64_t count, float* y);

}  // namespace mneme
