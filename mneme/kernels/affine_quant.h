// Affine group quantisation, bit for bit as papers/05 sections 3.1-3.2 (and MLX) define it: per
// group of consecutive elements x ~ scale * code + bias, codes of 2, 4 or 8 bits packed little end
// first into 32-bit words. Tests: affine_quant_test.cc (golden words of papers/05, every case of
// the file).
#pragma once

#include <cstdint>

namespace mneme {

struct AffineParams {
  float scale = 0;
  float bias = 0;
};

// Codes of one group: x [n] -> codes [n] in 0..2^bits-1. Returns the unrounded float32 scale and
// bias the codes were made with; round them to the storage type afterwards. bits in {2, 4, 8}.
// Throws Error when x is not finite, or its range is not.
AffineParams affine_quantize_group(const float* x, int64_t n, int bits, uint8_t* codes);

// Packs codes [n] into words [n * bits / 32]: code i goes to word i / (32 / bits), shifted left by
// (i % (32 / bits)) * bits.
void affine_pack(const uint8_t* codes, int64_t n, int bits, uint32_t* words);
void affine_unpack(const uint32_t* words, int64_t n, int bits, uint8_t* codes);

// A whole row: x [dim] -> words [dim * bits / 32], scales and biases [dim / group] (float32,
// unrounded). Throws Error when bits is not 2, 4 or 8, dim is no multiple of group, group no
// multiple of 32 / bits, or x is not finite.
void affine_quantize_row(const float* x, int64_t dim, int bits, int64_t group, uint32_t* words,
                         float* scales, float* biases);

// Bytes of a row of `dim` elements: words, and a 16-bit scale and bias for each group (papers/05
// section 4). Throws Error on the shapes that affine_quantize_row refuses.
int64_t affine_row_bytes(int64_t dim, int bits, int64_t group);

}  // namespace mneme
