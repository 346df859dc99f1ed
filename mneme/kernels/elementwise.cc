#include "mneme/kernels/elementwise.h"

#include <algorithm>
#include <cmath>

#include "mneme/core/error.h"

namespace mneme {

void rms_norm(const float* x, const float* weight, float epsilon, int64_t rows, int64_t dim,
              float* y) {
  MNEME_CHECK(rows >= 0 && dim > 0, "rms_norm: expected rows >= 0 and dim > 0, got ", rows, " x ",
              dim);
  for (int64_t r = 0; r < rows; ++r) {
    const float* in = x + r * dim;
    double sum = 0;
    for (int64_t i = 0; i < dim; ++i) sum += static_cast<double>(in[i]) * in[i];
    const auto factor = static_cast<float>(
        1.0 / std::sqrt(sum / static_cast<double>(dim) + static_cast<double>(epsilon)));
    for (int64_t i = 0; i < dim; ++i) y[r * dim + i] = in[i] * factor * weight[i];
  }
}

void add(float* x, const float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] += y[i];
}

void scale(float* x, float factor, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] *= factor;
}

void silu_mul(float* gate, const float* up, int64_t n) {
  for (int64_t i = 0; i < n; ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
}

void gelu_tanh_mul(float* gate, const float* up, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float v = gate[i];
    gate[i] = 0.5f * v * (1 + std::tanh(0.79788456f * (v + 0.044715f * v * v * v))) * up[i];
  }
}

void softcap(float* x, float cap, int64_t n) {
  MNEME_CHECK(cap > 0, "softcap: cap must be positive, got ", cap);
  for (int64_t i = 0; i < n; ++i) x[i] = cap * std::tanh(x[i] / cap);
}

void softmax(float* x, int64_t n) {
  MNEME_CHECK(n > 0, "softmax: n must be positive, got ", n);
  const float maximum = *std::max_element(x, x + n);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    x[i] = std::exp(x[i] - maximum);
    sum += static_cast<double>(x[i]);
  }
  scale(x, static_cast<float>(1 / sum), n);
}

double log_sum_exp(const float* x, int64_t n) {
  MNEME_CHECK(n > 0, "log_sum_exp: n must be positive, got ", n);
  const float maximum = *std::max_element(x, x + n);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::exp(static_cast<double>(x[i]) - maximum);
  return static_cast<double>(maximum) + std::log(sum);
}

void rope_table(int64_t first_position, int64_t count, int64_t dim, double base, double scale,
                const float* factors, float* cosines, float* sines) {
  MNEME_CHECK(dim > 0 && dim % 2 == 0, "rope_table: dim must be positive and even, got ", dim);
  MNEME_CHECK(count >= 0 && base > 0 && scale > 0,
              "rope_table: expected count >= 0, base > 0 and scale > 0, got ", count, ", ", base,
              ", ", scale);
  const int64_t half = dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    double frequency = std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(dim));
    frequency /= scale;
    if (factors != nullptr) frequency /= static_cast<double>(factors[i]);
    for (int64_t t = 0; t < count; ++t) {
      const double angle = static_cast<double>(first_position + t) * frequency;
      cosines[t * half + i] = static_cast<float>(std::cos(angle));
      sines[t * half + i] = static_cast<float>(std::sin(angle));
    }
  }
}

void rope(float* x, int64_t tokens, int64_t heads, int64_t dim, RopePairs pairs,
          const float* cosines, const float* sines) {
  MNEME_CHECK(dim > 0 && dim % 2 == 0, "rope: dim must be positive and even, got ", dim);
  MNEME_CHECK(tokens >= 0 && heads >= 0, "rope: tokens and heads must not be negative, got ",
              tokens, ", ", heads);
  const int64_t half = dim / 2;
  const bool halves = pairs == RopePairs::kHalves;
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t h = 0; h < heads; ++h) {
      float* v = x + (t * heads + h) * dim;
      for (int64_t i = 0; i < half; ++i) {
        float& a = halves ? v[i] : v[2 * i];
        float& b = halves ? v[half + i] : v[2 * i + 1];
        const float c = cosines[t * half + i], s = sines[t * half + i];
        const float rotated = a * c - b * s;
        b = a * s + b * c;
        a = rotated;
      }
    }
  }
}

}  // namespace mneme
