#include "mneme/cache/policy/pooling.h"

#include <gtest/gtest.h>

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

TEST(AveragePool, RefusesAnEvenKernel) {
  EXPECT_THROW(pooled({1}, 4), Error);
  EXPECT_THROW(pooled({1}, 0), Error);
}

}  // namespace
}  // namespace mneme
