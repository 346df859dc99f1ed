#include "mneme/cache/policy/pooling.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "mneme/core/error.h"

namespace mneme {
namespace {

std::vector<float> pooled(const std::vector<double>& x, int64_t kernel) {
  std::vector<float> out(x.size());
  average_pool(x, kernel, out);
  return out;
}

TEST(AveragePool, CountsWhatLiesOutsideAsZero) {
  EXPECT_EQ(pooled({5, 10, 15, 20, 25, 30}, 5), (std::vector<float>{6, 10, 15, 20, 18, 15}));
  EXPECT_EQ(pooled({3, 6}, 3), (std::vector<float>{3, 3}));
  EXPECT_EQ(pooled({-10}, 5), (std::vector<float>{-2}));
  EXPECT_EQ(pooled({1, 2, 3}, 1), (std::vector<float>{1, 2, 3}));
  EXPECT_EQ(pooled({}, 5), std::vector<float>());
}

TEST(AveragePool, SumsEveryElementAnewInOneOrder) {
  for (const size_t n : {7, 8, 12, 13, 100}) {
    std::vector<double> x(n);
    for (size_t i = 0; i < n; ++i) x[i] = 1.0 / static_cast<double>(3 + i * i % 17);
    const std::vector<float> got = pooled(x, 5);
    for (size_t i = 0; i < n; ++i) {
      double sum = 0;
      for (size_t j = i < 2 ? 0 : i - 2; j < std::min(n, i + 3); ++j) sum += x[j];
      EXPECT_EQ(got[i], static_cast<float>(sum / 5)) << i << " of " << n;
    }
  }
}

TEST(AveragePool, RefusesAnEvenKernel) {
  EXPECT_THROW(pooled({1}, 4), Error);
  EXPECT_THROW(pooled({1}, 0), Error);
}

}  // namespace
}  // namespace mneme
