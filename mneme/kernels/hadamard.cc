#include "mneme/kernels/hadamard.h"

#include <cmath>

#include "mneme/core/error.h"

namespace mneme {

void hadamard(const float* x, int64_t rows, int64_t dim, float* y) {
  MNEME_CHECK(rows >= 0 && dim > 0, "hadamard: expected rows >= 0 and dim > 0, got ", rows, " and ",
              dim);
  const int64_t block = hadamard_block(dim);
  const auto scale = static_cast<float>(1 / std::sqrt(static_cast<double>(block)));
  for (int64_t i = 0; i < rows * dim; ++i) y[i] = x[i] * scale;
  for (float* b = y; b < y + rows * dim; b += block) {
    for (int64_t half = 1; half < block; half *= 2) {
      for (int64_t first = 0; first < block; first += 2 * half) {
        float* const low = b + first;
        float* const high = low + half;
        for (int64_t i = 0; i < half; ++i) {
          const float sum = low[i] + high[i];
          high[i] = low[i] - high[i];
          low[i] = sum;
        }
      }
    }
  }
}

}  // namespace mneme
