#include "mneme/kernels/packed_matmul.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "mneme/core/error.h"
#include "mneme/kernels/dequantize_naive.h"
#include "mneme/kernels/targets_testing.h"
#include "mneme/kernels/weight_testing.h"
#include "tests/support/error_of.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<int64_t> widths(DType dtype) {
  const int64_t block = dtype_info(dtype).block_elements;
  if (block == 32) return {32, 96, 576};
  return {256, 768};
}

template <typename Test>
void for_each_packed_type(Test&& test) {
  for (const DType dtype : kWeightTypes) {
    if (!PackedWeight::packs(dtype)) continue;
    SCOPED_TRACE(dtype_name(dtype));
    for (const int64_t in : widths(dtype)) test(dtype, in);
  }
}

std::vector<float> multiply(const PackedWeight& weight, const float* x, int64_t rows,
                            ThreadPool& pool) {
  ActivationPlanes planes;
  planes.assign(x, rows, weight.in(), weight.in(), pool);
  std::vector<float> y(static_cast<size_t>(rows * weight.out()), kNan);
  const PackedProduct product{&weight, y.data(), weight.out()};
  packed_matmul({&product, 1}, planes, pool);
  return y;
}

// Against the float64 product: half a unit of the 16-bit activations in each input, and float32
// accumulation of the blocks (codes up to 255 over a centre cost Q8_0 no exactness: sums are int32).
TEST(PackedMatmul, IsNearTheFloat64Product) {
  ThreadPool pool(2);
  for_each_arithmetic([&] {
    for_each_packed_type([&](DType dtype, int64_t in) {
      const int64_t out = 37;
      const RandomWeight weight(dtype, out, in, 5);
      const PackedWeight packed(weight.view(), pool);
      for (const int64_t rows : {1, 3, 9}) {
        const std::vector<float> x = random_floats(rows * in, 6);
        const std::vector<float> y = multiply(packed, x.data(), rows, pool);
        std::vector<float> w(static_cast<size_t>(in));
        for (int64_t n = 0; n < out; ++n) {
          naive_dequantize_row(weight.view(), n, w.data());
          for (int64_t m = 0; m < rows; ++m) {
            double exact = 0, rounding = 0, magnitude = 0;
            for (int64_t b = 0; b < in; b += 32) {
              double most = 0;
              for (int64_t k = b; k < b + 32; ++k) {
                const double value = x[static_cast<size_t>(m * in + k)];
                exact += value * w[static_cast<size_t>(k)];
                magnitude += std::abs(value * w[static_cast<size_t>(k)]);
                most = std::max(most, std::abs(value));
              }
              for (int64_t k = b; k < b + 32; ++k)
                rounding += most / 65000 * std::abs(w[static_cast<size_t>(k)]);
            }
            // Minima and codes are summed apart: each may be larger than the weight they make up.
            const double apart = 8;
            const double bound =
                rounding + apart * static_cast<double>(in / 32 + 4) * 0x1p-23 * magnitude;
            ASSERT_NEAR(y[static_cast<size_t>(m * out + n)], exact, bound)
                << rows << " x " << in << " at " << m << ", " << n;
          }
        }
      }
    });
  });
}

TEST(PackedMatmul, RowAloneEqualsRowInBatchBitForBit) {
  ThreadPool two(2), one(1);
  for_each_arithmetic([&] {
    for_each_packed_type([&](DType dtype, int64_t in) {
      const int64_t out = 101;
      const RandomWeight weight(dtype, out, in, 7);
      const PackedWeight packed(weight.view(), one);
      const std::vector<float> x = random_floats(33 * in, 8);
      std::vector<float> alone;
      for (int64_t m = 0; m < 33; ++m) {
        const std::vector<float> y = multiply(packed, x.data() + m * in, 1, one);
        alone.insert(alone.end(), y.begin(), y.end());
      }
      for (const int64_t rows : {2, 3, 4, 5, 7, 8, 9, 15, 33}) {
        const std::vector<float> y = multiply(packed, x.data(), rows, rows % 2 == 0 ? two : one);
        ASSERT_EQ(std::memcmp(y.data(), alone.data(), y.size() * sizeof(float)), 0)
            << rows << " rows of " << in;
      }
    });
  });
}

// Many rows are cut into parts for the threads, each with the tiles of all products.
TEST(PackedMatmul, RowsInPartsEqualRowsTogetherBitForBit) {
  ThreadPool one(1);
  constexpr int64_t kIn = 96, kMost = 200, kOuts[2] = {1040, 37};
  const RandomWeight first(DType::kQ4_1, kOuts[0], kIn, 11),
      second(DType::kQ8_0, kOuts[1], kIn, 12);
  const PackedWeight weights[2] = {{first.view(), one}, {second.view(), one}};
  const std::vector<float> x = random_floats(kMost * kIn, 13);
  const auto products = [&](int64_t rows, ThreadPool& pool) {
    ActivationPlanes planes;
    planes.assign(x.data(), rows, kIn, kIn, pool);
    std::vector<float> y[2];
    for (int i = 0; i < 2; ++i) y[i].assign(static_cast<size_t>(rows * kOuts[i]), std::nanf(""));
    const PackedProduct both[2] = {{&weights[0], y[0].data(), kOuts[0]},
                                   {&weights[1], y[1].data(), kOuts[1]}};
    packed_matmul(both, planes, pool);
    y[0].insert(y[0].end(), y[1].begin(), y[1].end());
    return y[0];
  };
  for (const int threads : {2, 3}) {
    ThreadPool pool(threads);
    for (const int64_t rows : {63, 64, 65, 96, 130, 191, 200})
      EXPECT_EQ(products(rows, pool), products(rows, one)) << rows << " rows, " << threads;
  }
}

// What a target computes does not depend on its width: integers are exact, blocks come in order.
TEST(PackedMatmul, VnniChangesNoBit) {
  ThreadPool pool(2);
  for_each_packed_type([&](DType dtype, int64_t in) {
    const RandomWeight weight(dtype, 40, in, 9);
    const PackedWeight packed(weight.view(), pool);
    const std::vector<float> x = random_floats(5 * in, 10);
    const std::vector<float> with = multiply(packed, x.data(), 5, pool);
    allow_vnni(false);
    const std::vector<float> without = multiply(packed, x.data(), 5, pool);
    allow_vnni(true);
    EXPECT_EQ(with, without);
  });
}

TEST(PackedMatmul, SeveralProductsShareTheirActivations) {
  ThreadPool pool(2);
  const RandomWeight a(DType::kQ4_1, 48, 96, 1), b(DType::kQ8_0, 17, 96, 2);
  const PackedWeight first(a.view(), pool), second(b.view(), pool);
  const std::vector<float> x = random_floats(6 * 96, 3);
  ActivationPlanes planes;
  planes.assign(x.data(), 6, 96, 96, pool);
  std::vector<float> y(6 * 70, kNan);
  const PackedProduct products[] = {{&first, y.data(), 70}, {&second, y.data() + 48, 70}};
  packed_matmul(products, planes, pool);
  const std::vector<float> alone = multiply(first, x.data(), 6, pool);
  const std::vector<float> other = multiply(second, x.data(), 6, pool);
  for (size_t m = 0; m < 6; ++m) {
    EXPECT_EQ(std::memcmp(&y[m * 70], &alone[m * 48], 48 * sizeof(float)), 0);
    EXPECT_EQ(std::memcmp(&y[m * 70 + 48], &other[m * 17], 17 * sizeof(float)), 0);
    for (size_t n = 65; n < 70; ++n) EXPECT_TRUE(std::isnan(y[m * 70 + n]));
  }
}

TEST(PackedMatmul, RefusesShapesThatDoNotFit) {
  ThreadPool pool(1);
  const RandomWeight weight(DType::kQ4_1, 4, 64, 1);
  const PackedWeight packed(weight.view(), pool);
  const std::vector<float> x(32, 1.0f);
  ActivationPlanes planes;
  planes.assign(x.data(), 1, 32, 32, pool);
  std::vector<float> y(4);
  const PackedProduct narrow{&packed, y.data(), 4};
  EXPECT_THAT(error_of([&] {
                packed_matmul({&narrow, 1}, planes, pool);
              }),
              HasSubstr("weight.Q4_1 has 64 inputs, the activations 32"));
  const std::vector<float> wide(64, 1.0f);
  planes.assign(wide.data(), 1, 64, 64, pool);
  const PackedProduct dense{&packed, y.data(), 3};
  EXPECT_THAT(error_of([&] {
                packed_matmul({&dense, 1}, planes, pool);
              }),
              HasSubstr("y_stride of at least 4, got 3"));
}

}  // namespace
}  // namespace mneme
