#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "mneme/io/safetensors.h"
#include "mneme/kernels/dequantize_naive.h"
#include "mneme/kernels/matmul.h"
#include "mneme/kernels/targets_testing.h"
#include "mneme/kernels/weight_testing.h"

namespace mneme {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST(Dequantize, EqualsGgmlBitForBit) {
  const auto file =
      SafetensorsFile::open(std::string(MNEME_SOURCE_DIR) + "/tests/quant/blocks.safetensors");
  for_each_target([&file] {
    int types = 0;
    for (const DType dtype : kWeightTypes) {
      if (dtype_info(dtype).block_elements == 1) continue;
      SCOPED_TRACE(dtype_name(dtype));
      ++types;
      const std::string name(dtype_name(dtype));
      const TensorView* blocks = file->find(name + "/blocks");
      const TensorView* values = file->find(name + "/values");
      ASSERT_TRUE(blocks != nullptr && values != nullptr);
      const int64_t rows = values->shape[0], columns = values->shape[1];
      const auto* want = reinterpret_cast<const float*>(values->data);
      const TensorView weight{name, dtype, {rows, columns}, blocks->data, blocks->bytes};
      std::vector<float> got(static_cast<size_t>(columns)), naive = got;
      for (int64_t row = 0; row < rows; ++row) {
        dequantize_row(weight, row, got.data());
        naive_dequantize_row(weight, row, naive.data());
        for (int64_t i = 0; i < columns; ++i) {
          ASSERT_EQ(got[static_cast<size_t>(i)], want[row * columns + i]) << row << ", " << i;
          ASSERT_EQ(naive[static_cast<size_t>(i)], want[row * columns + i]) << row << ", " << i;
        }
      }
    }
    EXPECT_EQ(types, 8);
  });
}

TEST(Dequantize, EqualsNaiveBitForBit) {
  for_each_target([] {
    for (const DType dtype : kWeightTypes) {
      SCOPED_TRACE(dtype_name(dtype));
      const int64_t block = dtype_info(dtype).block_elements;
      for (const int64_t in : {block, 3 * block, int64_t{256}, int64_t{1001} / block * block}) {
        const RandomWeight weight(dtype, 3, in, 11);
        std::vector<float> got(static_cast<size_t>(in) + 1, kNan), want(static_cast<size_t>(in));
        for (int64_t row = 0; row < 3; ++row) {
          dequantize_row(weight.view(), row, got.data());
          naive_dequantize_row(weight.view(), row, want.data());
          for (size_t i = 0; i < want.size(); ++i) ASSERT_EQ(got[i], want[i]) << in << " " << i;
          EXPECT_TRUE(std::isnan(got.back())) << "wrote behind the row";
        }
      }
    }
  });
}

}  // namespace
}  // namespace mneme
