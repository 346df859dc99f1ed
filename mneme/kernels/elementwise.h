// The small vector operations of a decoder layer, on float32 rows. Row results do not depend on the
// number of rows. Sums (norm, softmax) are accumulated in float64; the exponential is within 1 unit
// in the last place, the hyperbolic tangent within 4. Tests: elementwise_test.cc, each against a
// float64 naive twin.
#pragma once

#include <cstdint>

namespace mneme {

// y[r] = x[r] / sqrt(mean(x[r]^2) + epsilon) * weight. x, y [rows, dim] (may alias), weight [dim].
void rms_norm(const float* x, const float* weight, float epsilon, int64_t rows, int64_t dim,
              float* y);

// x += y over n elements.
void add(float* x, const float* y, int64_t n);
// x *= factor over n elements.
void scale(float* x, float factor, int64_t n);

// gate[i] = silu(gate[i]) * up[i], silu(x) = x / (1 + exp(-x)).
void silu_mul(float* gate, const float* up, int64_t n);
// gate[i] = gelu(gate[i]) * up[i] with the tanh form: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715
// x^3))).
void gelu_tanh_mul(float* gate, const float* up, int64_t n);

// x = cap * tanh(x / cap) over n elements, cap > 0.
void softcap(float* x, float cap, int64_t n);

// x = softmax(x) over n elements (subtracting the maximum); n > 0.
void softmax(float* x, int64_t n);
// ln(sum(exp(x))) over n elements, accumulated in float64.
double log_sum_exp(const float* x, int64_t n);

// The two ways of pairing dimensions in rotary embeddings: (i, i + dim/2), or (2i, 2i + 1) as
// GGUF's llama stores them.
enum class RopePairs { kHalves, kInterleaved };

// Cosines and sines of rotary angles position * base^(-2i/dim) / scale for positions first, first +
// 1, ...: cosines, sines [count, dim / 2], angles in float64. factors [dim / 2] divides each
// frequency, or is null.
void rope_table(int64_t first_position, int64_t count, int64_t dim, double base, double scale,
                const float* factors, float* cosines, float* sines);

// Rotates x [tokens, heads, dim] in place; token t uses row t of the table.
void rope(float* x, int64_t tokens, int64_t heads, int64_t dim, RopePairs pairs,
          const float* cosines, const float* sines);

}  // namespace mneme
