#include "mneme/kernels/hadamard.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <vector>

#include "mneme/core/error.h"
#include "mneme/core/rng.h"

namespace mneme {
namespace {

// H[i][j] = (-1)^popcount(i & j) / sqrt(block), block by block, in float64.
std::vector<double> naive(const std::vector<float>& x, int64_t dim) {
  const int64_t block = hadamard_block(dim);
  std::vector<double> y(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const auto within = static_cast<int64_t>(i) % block;
    const auto begin = static_cast<int64_t>(i) - within;
    for (int64_t j = 0; j < block; ++j) {
      const double sign = std::popcount(static_cast<uint64_t>(within & j)) % 2 == 0 ? 1 : -1;
      y[i] += sign * x[static_cast<size_t>(begin + j)] / std::sqrt(static_cast<double>(block));
    }
  }
  return y;
}

TEST(Hadamard, EqualsTheMatrixAndUndoesItself) {
  Rng rng(1);
  for (const int64_t dim : {1, 2, 16, 63, 64, 80, 96, 128, 256}) {
    std::vector<float> x(static_cast<size_t>(3 * dim)), y(x.size());
    for (float& value : x) value = static_cast<float>(rng.normal());
    hadamard(x.data(), 3, dim, y.data());
    const std::vector<double> want = naive(x, dim);
    for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(y[i], want[i], 4e-6) << dim;
    hadamard(y.data(), 3, dim, y.data());
    for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(y[i], x[i], 4e-6) << dim;
  }
}

TEST(Hadamard, RefusesBadSizes) {
  EXPECT_THROW(hadamard(nullptr, -1, 4, nullptr), Error);
  EXPECT_THROW(hadamard(nullptr, 1, 0, nullptr), Error);
}

}  // namespace
}  // namespace mneme
