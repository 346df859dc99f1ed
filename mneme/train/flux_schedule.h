// What changes from step to step while routers of Flux Attention are trained (papers/22, section 3):
// temperature, sparsity target, learning rate. Tests: flux_training_test.cc (golden 22).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace mneme::train {

// Half a cosine from `max` to `min` over the first `fraction` of the steps, then `min`.
inline double flux_temperature(int64_t step, int64_t steps, double max = 1.5, double min = 1,
                               double fraction = 0.6) {
  const double end = std::ceil(fraction * static_cast<double>(steps));
  const auto t = static_cast<double>(step);
  if (t >= end) return min;
  return min + (max - min) / 2 * (1 + std::cos(std::numbers::pi * t / end));
}

// Linear from `start` to `end` over the first `warmup` of the steps, then `end`.
inline double flux_target(int64_t step, int64_t steps, double start, double end, double warmup) {
  const double ramp = std::ceil(warmup * static_cast<double>(steps));
  const auto t = static_cast<double>(step);
  return t >= ramp ? end : start + (end - start) * t / ramp;
}

// Factor of the learning rate: linear from near 0 over the first `warmup` of the steps, then half a
// cosine to 0 at the end.
inline double warmup_cosine(int64_t step, int64_t steps, double warmup) {
  const double ramp = std::ceil(warmup * static_cast<double>(steps));
  const auto t = static_cast<double>(step);
  if (t < ramp) return (t + 1) / ramp;
  const double rest = std::max(1.0, static_cast<double>(steps) - ramp);
  return (1 + std::cos(std::numbers::pi * (t - ramp) / rest)) / 2;
}

}  // namespace mneme::train
