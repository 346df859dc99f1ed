// Naive twins for the int8 tests.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "mneme/kernels/int8_product.h"

namespace mneme {

// round(x * (127 / absmax)), half to even, written out.
inline int8_t naive_int8_code(float x, float absmax) {
  if (absmax == 0) return 0;
  const float factor = 127.0f / absmax;
  const float product = x * factor;
  float rounded = std::floor(product);
  const float above = product - rounded;
  if (above > 0.5f || (above == 0.5f && std::fmod(rounded, 2.0f) != 0)) rounded += 1;
  return static_cast<int8_t>(rounded);
}

inline std::vector<int32_t> naive_int8_product(const std::vector<int8_t>& a,
                                               const std::vector<int8_t>& w, int64_t rows,
                                               int64_t out, int64_t in) {
  std::vector<int32_t> c(static_cast<size_t>(rows * out));
  for (int64_t m = 0; m < rows; ++m) {
    for (int64_t n = 0; n < out; ++n) {
      int32_t sum = 0;
      for (int64_t k = 0; k < in; ++k) {
        sum += static_cast<int32_t>(a[static_cast<size_t>(m * in + k)]) *
               w[static_cast<size_t>(n * in + k)];
      }
      c[static_cast<size_t>(m * out + n)] = sum;
    }
  }
  return c;
}

}  // namespace mneme
