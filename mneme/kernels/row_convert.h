// Rows of floats to the two 16-bit formats, rounding to nearest even exactly as core/half.h, and
// the test that they fit. Tests: row_page_test.cc.
#pragma once

#include <cstdint>

#include "mneme/core/dtype.h"

namespace mneme {

// The largest magnitude of x [n] as bits of a float (infinity and NaN are larger than any number).
uint32_t largest_magnitude(const float* x, int64_t n);
// Whether every number of x [n] can be stored as F16 or F32: finite, and as F16 not past 65504 when it
// is rounded.
bool storable(DType dtype, const float* x, int64_t n);
void floats_to_f16(const float* x, int64_t n, uint16_t* bits);
void floats_to_bf16(const float* x, int64_t n, uint16_t* bits);

}  // namespace mneme
