#include "mneme/io/tensor_check.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "mneme/core/half.h"
#include "tests/support/error_of.h"

namespace mneme {
namespace {

template <typename T>
NonFiniteCount count(DType dtype, const std::vector<T>& values) {
  // One byte off, as tensors of a file may lie.
  std::vector<std::byte> bytes(values.size() * sizeof(T) + 1);
  if (!values.empty()) std::memcpy(bytes.data() + 1, values.data(), bytes.size() - 1);
  const auto size = static_cast<int64_t>(bytes.size()) - 1;
  return count_non_finite(
      {"w", dtype, {size / dtype_info(dtype).block_bytes}, bytes.data() + 1, size});
}

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

TEST(TensorCheck, T12FloatTensors) {
  const std::vector<double> values = {0, kNan, 1e30, -kInf, kInf, -1, kNan, kNan, 5e-324};
  std::vector<float> floats;
  std::vector<uint16_t> halves, brains;
  for (const double value : values) {
    const auto single = static_cast<float>(value);
    floats.push_back(single);
    halves.push_back(float_to_f16(std::isfinite(single) ? 1.0f : single));
    brains.push_back(float_to_bf16(single));
  }
  for (const NonFiniteCount& got : {count(DType::kF64, values), count(DType::kF32, floats),
                                    count(DType::kF16, halves), count(DType::kBF16, brains)}) {
    EXPECT_EQ(got.nan, 3);
    EXPECT_EQ(got.inf, 2);
  }
}

TEST(TensorCheck, LargestFiniteValuesAreFinite) {
  EXPECT_EQ(count(DType::kF32, std::vector<float>{std::numeric_limits<float>::max()}).inf, 0);
  EXPECT_EQ(count(DType::kF16, std::vector<uint16_t>{0x7bff, 0xfbff}).inf, 0);
  EXPECT_EQ(count(DType::kBF16, std::vector<uint16_t>{0x7f7f, 0xff7f}).inf, 0);
}

TEST(TensorCheck, IntegersAndNothing) {
  EXPECT_EQ(count(DType::kI32, std::vector<uint32_t>{0x7fc00000, 0x7f800000}).nan, 0);
  const NonFiniteCount none = count(DType::kF32, std::vector<float>{});
  EXPECT_EQ(none.nan + none.inf, 0);
}

TEST(TensorCheck, T12ScalesOfQuantisedBlocks) {
  struct {
    DType dtype;
    std::vector<int64_t> halves;  // where a block keeps its half-precision numbers
  } const kLayouts[] = {{DType::kQ4_0, {0}},    {DType::kQ4_1, {0, 2}}, {DType::kQ5_0, {0}},
                        {DType::kQ5_1, {0, 2}}, {DType::kQ8_0, {0}},    {DType::kQ4_K, {0, 2}},
                        {DType::kQ5_K, {0, 2}}, {DType::kQ6_K, {208}}};
  for (const auto& layout : kLayouts) {
    const int64_t block_bytes = dtype_info(layout.dtype).block_bytes;
    // Quants of all ones are no NaN, although they look like it.
    std::vector<uint8_t> bytes(static_cast<size_t>(3 * block_bytes), 0xff);
    const auto set = [&](int64_t block, int64_t half, uint16_t value) {
      std::memcpy(bytes.data() + block * block_bytes + half, &value, sizeof(value));
    };
    for (int64_t block = 0; block < 3; ++block) {
      for (const int64_t half : layout.halves) set(block, half, 0x3c00);
    }
    const NonFiniteCount clean = count(layout.dtype, bytes);
    EXPECT_EQ(clean.nan + clean.inf, 0) << dtype_name(layout.dtype);
    set(1, layout.halves.back(), 0x7e00);
    set(2, layout.halves.front(), 0xfc00);
    const NonFiniteCount got = count(layout.dtype, bytes);
    EXPECT_EQ(got.nan, 1) << dtype_name(layout.dtype);
    EXPECT_EQ(got.inf, 1) << dtype_name(layout.dtype);
  }
}

TEST(TensorCheck, PartOfAnElementIsRefused) {
  EXPECT_EQ(testing::error_of([] { count(DType::kF32, std::vector<uint8_t>(7)); }),
            "count_non_finite: tensor w has 7 bytes, expected a multiple of 4");
}

}  // namespace
}  // namespace mneme
