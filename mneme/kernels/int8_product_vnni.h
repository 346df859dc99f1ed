// The integer product of int8_product.h by AVX512_VNNI, compiled on its own (vnni.h says when it may
// be called).
#pragma once

#include <cstdint>

#include "mneme/kernels/packed_int8.h"

namespace mneme {

// As int8_product(); only where use_vnni().
void int8_product_vnni(const uint8_t* biased, int64_t rows, int64_t a_stride, const PackedInt8& w,
                       int64_t first, int64_t last, int32_t* c, int64_t c_stride);

}  // namespace mneme
