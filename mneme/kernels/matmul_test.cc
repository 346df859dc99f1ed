#include "mneme/kernels/matmul.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "mneme/core/error.h"
#include "mneme/kernels/dequantize_naive.h"
#include "mneme/kernels/targets_testing.h"
#include "mneme/kernels/weight_testing.h"

namespace mneme {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<int64_t> widths(DType dtype) {
  const int64_t block = dtype_info(dtype).block_elements;
  if (block == 1) return {1, 7, 63, 100, 576, 1000};
  if (block == 32) return {32, 96, 576};
  return {256, 768};
}

// x [rows, stride] with NaN behind every row.
std::vector<float> padded_rows(int64_t rows, int64_t in, int64_t stride, uint64_t seed) {
  std::vector<float> x = random_floats(rows * stride, seed);
  for (int64_t m = 0; m < rows; ++m) {
    for (int64_t k = in; k < stride; ++k) x[static_cast<size_t>(m * stride + k)] = kNan;
  }
  return x;
}

// |y - exact| <= (in + 3) eps sum |x w|: the bound of any order of float32 accumulation.
TEST(Matmul, IsNearTheFloat64Product) {
  ThreadPool pool(2);
  for_each_target([&pool] {
    for (const DType dtype : kWeightTypes) {
      SCOPED_TRACE(dtype_name(dtype));
      for (const int64_t in : widths(dtype)) {
        for (const int64_t rows : {1, 2, 3, 4, 9}) {
          const int64_t out = 37, x_stride = in + 5, y_stride = out + 3;
          const RandomWeight weight(dtype, out, in, 5);
          const std::vector<float> x = padded_rows(rows, in, x_stride, 6);
          std::vector<float> y(static_cast<size_t>(rows * y_stride), kNan);
          matmul(weight.view(), x.data(), rows, x_stride, y.data(), y_stride, pool);
          std::vector<float> w(static_cast<size_t>(in));
          for (int64_t n = 0; n < out; ++n) {
            naive_dequantize_row(weight.view(), n, w.data());
            for (int64_t m = 0; m < rows; ++m) {
              double exact = 0, magnitude = 0;
              for (int64_t k = 0; k < in; ++k) {
                const double product = static_cast<double>(w[static_cast<size_t>(k)]) *
                                       x[static_cast<size_t>(m * x_stride + k)];
                exact += product;
                magnitude += std::abs(product);
              }
              const double bound = static_cast<double>(in + 3) * 0x1p-24 * magnitude;
              ASSERT_NEAR(y[static_cast<size_t>(m * y_stride + n)], exact, bound)
                  << rows << " x " << in << " at " << m << ", " << n;
            }
          }
          for (int64_t m = 0; m < rows; ++m) {
            for (int64_t n = out; n < y_stride; ++n) {
              ASSERT_TRUE(std::isnan(y[static_cast<size_t>(m * y_stride + n)]));
            }
          }
        }
      }
    }
  });
}

TEST(Matmul, RowAloneEqualsRowInBatchBitForBit) {
  ThreadPool two(2), one(1);
  for_each_target([&] {
    for (const DType dtype : kWeightTypes) {
      SCOPED_TRACE(dtype_name(dtype));
      for (const int64_t in : widths(dtype)) {
        const int64_t out = 101;
        const RandomWeight weight(dtype, out, in, 7);
        const std::vector<float> x = random_floats(100 * in, 8);
        std::vector<float> alone(static_cast<size_t>(100 * out));
        for (int64_t m = 0; m < 100; ++m) {
          matmul(weight.view(), x.data() + m * in, 1, in, alone.data() + m * out, out, one);
        }
        for (const int64_t rows :
             {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 33, 100}) {
          std::vector<float> y(static_cast<size_t>(rows * out), kNan);
          matmul(weight.view(), x.data(), rows, in, y.data(), out, rows % 2 == 0 ? two : one);
          ASSERT_EQ(std::memcmp(y.data(), alone.data(), y.size() * sizeof(float)), 0)
              << rows << " rows of " << in;
        }
      }
    }
  });
}

TEST(Matmul, AcceptsNoRowsAndNoOutputs) {
  ThreadPool pool(2);
  const RandomWeight weight(DType::kQ4_1, 4, 32, 1), none(DType::kF32, 0, 8, 1);
  const std::vector<float> x(32, 1.0f);
  std::vector<float> y(4, kNan);
  matmul(weight.view(), x.data(), 0, 32, y.data(), 4, pool);
  matmul(none.view(), x.data(), 1, 8, y.data(), 4, pool);
  for (const float value : y) EXPECT_TRUE(std::isnan(value));
}

template <typename Call>
std::string message_of(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Matmul, NamesTheTensorItCannotUse) {
  ThreadPool pool(1);
  std::vector<float> x(64), y(64);
  const auto run = [&](const TensorView& weight, int64_t rows, int64_t xs, int64_t ys) {
    return message_of([&] { matmul(weight, x.data(), rows, xs, y.data(), ys, pool); });
  };
  const RandomWeight good(DType::kQ8_0, 2, 32, 1);
  TensorView bad = good.view();
  bad.dtype = DType::kI32;
  EXPECT_THAT(run(bad, 1, 32, 2), testing::HasSubstr("weight.Q8_0 has type I32, expected one of"));
  bad = good.view();
  bad.shape = {64};
  EXPECT_THAT(run(bad, 1, 32, 2), testing::HasSubstr("expected a matrix, got weight.Q8_0 [64]"));
  bad = good.view();
  bad.shape = {3, 32};
  EXPECT_THAT(run(bad, 1, 32, 3),
              testing::HasSubstr("weight.Q8_0 [3, 32] needs 102 bytes, has 68"));
  bad.shape = {2, 33};
  EXPECT_THAT(run(bad, 1, 33, 3), testing::HasSubstr("33 elements do not fill blocks of 32"));
  EXPECT_THAT(run(good.view(), -1, 32, 2), testing::HasSubstr("rows must not be negative, got -1"));
  EXPECT_THAT(run(good.view(), 1, 31, 2), testing::HasSubstr("x_stride of at least 32, got 31"));
  EXPECT_THAT(run(good.view(), 1, 32, 1), testing::HasSubstr("y_stride of at least 2, got 1"));
  EXPECT_THAT(message_of([&] { dequantize_row(good.view(), 2, y.data()); }),
              testing::HasSubstr("weight.Q8_0 has rows 0 to 1, got row 2"));
}

}  // namespace
}  // namespace mneme
