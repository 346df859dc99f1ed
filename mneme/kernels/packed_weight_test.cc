#include "mneme/kernels/packed_weight.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "mneme/core/error.h"
#include "mneme/kernels/dequantize_naive.h"
#include "mneme/kernels/weight_testing.h"
#include "tests/support/error_of.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

TEST(PackedWeight, EveryRowDecodesToTheBitsOfTheFile) {
  ThreadPool pool(2);
  for (const DType dtype : kWeightTypes) {
    if (!PackedWeight::packs(dtype)) continue;
    SCOPED_TRACE(dtype_name(dtype));
    const int64_t block = dtype_info(dtype).block_elements;
    for (const int64_t out : {1, 15, 16, 37}) {
      for (const int64_t in : {block, 3 * block}) {
        const RandomWeight weight(dtype, out, in, 3);
        const PackedWeight packed(weight.view(), pool);
        std::vector<float> expected(static_cast<size_t>(in)), got(static_cast<size_t>(in));
        for (int64_t row = 0; row < out; ++row) {
          naive_dequantize_row(weight.view(), row, expected.data());
          packed.dequantize_row(row, got.data());
          ASSERT_EQ(std::memcmp(expected.data(), got.data(), got.size() * sizeof(float)), 0)
              << "row " << row << " of " << out << " x " << in;
        }
      }
    }
  }
}

TEST(PackedWeight, TakesTheBytesOfTheFileOrLittleMore) {
  ThreadPool pool(1);
  for (const DType dtype : kWeightTypes) {
    if (!PackedWeight::packs(dtype)) continue;
    SCOPED_TRACE(dtype_name(dtype));
    const RandomWeight weight(dtype, 64, 1536, 1);
    const PackedWeight packed(weight.view(), pool);
    const double ratio =
        static_cast<double>(packed.bytes()) / static_cast<double>(weight.view().bytes);
    const bool wider = dtype == DType::kQ4_K || dtype == DType::kQ5_K || dtype == DType::kQ6_K;
    EXPECT_GE(ratio, 1.0);
    EXPECT_LE(ratio, wider ? 1.03 : 1.0025);
  }
}

TEST(PackedWeight, NamesTheTensorItCannotPack) {
  ThreadPool pool(1);
  const auto refusal = [&](const TensorView& view) {
    return error_of([&] { PackedWeight packed(view, pool); });
  };
  const RandomWeight good(DType::kQ4_1, 2, 64, 1), floats(DType::kF32, 2, 64, 1);
  EXPECT_THAT(refusal(floats.view()), HasSubstr("weight.F32 has type F32, expected one of Q8_0"));
  TensorView bad = good.view();
  bad.shape = {3, 64};
  EXPECT_THAT(refusal(bad), HasSubstr("weight.Q4_1 [3, 64] needs 120 bytes, has 80"));
  bad.shape = {128};
  EXPECT_THAT(refusal(bad), HasSubstr("expected a matrix, got weight.Q4_1 [128]"));
  bad.shape = {1, 65};
  EXPECT_THAT(refusal(bad), HasSubstr("65 elements do not fill blocks of 32"));
  const PackedWeight packed(good.view(), pool);
  std::vector<float> row(64);
  EXPECT_THAT(error_of([&] { packed.dequantize_row(2, row.data()); }),
              HasSubstr("weight.Q4_1 has rows 0 to 1, got row 2"));
}

}  // namespace
}  // namespace mneme
