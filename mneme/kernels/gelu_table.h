// The GELU of Edge-MoE (papers/33 section 3.5): x Phi(x) = relu(x) - d(|x|), d(a) = a Phi(-a), with
// d from a table of 177 entries at step 1/32 over [0, 5.5], linear in between, 0 beyond. The table
// holds multiples of 2^-22, as the accelerator does. Symmetry leaves one half to store; the step is
// a power of two, so index and fraction are exact in float32.
//
// The largest error against the exact GELU is 9.74e-5 (at |x| = 1/64), where the tanh form errs by
// 4.7e-4 and x sigmoid(1.702 x) by 2.0e-2; bench/bench_edge_moe.cc prints all three. NaN stays NaN;
// +infinity gives +infinity, -infinity 0. An element's result does not depend on its place.
// Tests: gelu_table_test.cc (float64 twin, every target), edge_moe_golden_test.cc.
#pragma once

#include <cstdint>
#include <span>

namespace mneme {

inline constexpr int64_t kGeluTableEntries = 177;

// d(i / 32) rounded to multiples of 2^-22.
std::span<const float, kGeluTableEntries> gelu_table_entries();

// y = gelu(x) over n elements; y may be x.
void gelu_table(const float* x, int64_t n, float* y);
// gate = gelu(gate) * up over n elements.
void gelu_table_mul(float* gate, const float* up, int64_t n);

}  // namespace mneme
