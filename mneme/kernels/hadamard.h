// The orthonormal Walsh-Hadamard transform H: H H = I, so (H q) . (H k) = q . k. It spreads the few
// large channels that keys have over all of them, which is what a group of few bits needs (QuaRot,
// Ashkboos et al. 2024). Tests: hadamard_test.cc.
#pragma once

#include <cstdint>

namespace mneme {

// The block the transform works on: the largest power of two that divides `dim`.
constexpr int64_t hadamard_block(int64_t dim) { return dim & -dim; }

// y[r] = H x[r] for rows of `dim` elements, block by block of hadamard_block(dim). x, y [rows, dim]
// (may alias). rows * dim * log2(block) additions.
void hadamard(const float* x, int64_t rows, int64_t dim, float* y);

}  // namespace mneme
