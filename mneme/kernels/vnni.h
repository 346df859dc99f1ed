// Whether kernels multiply bytes by AVX512_VNNI. Highway 1.0 has no target for it, so code that uses
// it is compiled beside a target's own and chosen by what the processor says.
// Tests: packed_matmul_test.cc, int8_product_test.cc (the same bits with and without).
#pragma once

namespace mneme {

// The processor has AVX512_VNNI, with F, BW and VL, and it has not been switched off.
bool use_vnni();

// For tests: switches it off, or on again where the processor has it (the default).
void allow_vnni(bool allowed);

}  // namespace mneme
