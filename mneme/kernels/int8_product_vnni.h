// The integer product of int8_product.h by AVX512_VNNI. Highway 1.0 has no target with it, so it
// is compiled on its own and chosen by what the processor says.
#pragma once

#include <cstdint>

#include "mneme/kernels/packed_int8.h"

namespace mneme {

// Whether this processor has AVX512_VNNI, with F, BW and VL; false where the code was not built.
bool has_avx512_vnni();

// As int8_product(); only where has_avx512_vnni().
void int8_product_vnni(const uint8_t* biased, int64_t rows, int64_t a_stride, const PackedInt8& w,
                       int64_t first, int64_t last, int32_t* c, int64_t c_stride);

}  // namespace mneme
