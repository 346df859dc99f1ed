// The CUDA flash kernels run thread by thread on the CPU against the definition of
// kernels/flash_attention.h in float64.
#include "mneme/kernels/cuda/flash_launch.cuh"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "mneme/kernels/cuda/attention_reference_testing.h"
#include "mneme/kernels/cuda/emulated_launch_testing.h"
#include "mneme/kernels/weight_testing.h"

namespace mneme::cuda {
namespace {

template <class T>
constexpr DType kTypeOf = DType::kF32;
template <>
constexpr DType kTypeOf<F16> = DType::kF16;
template <>
constexpr DType kTypeOf<BF16> = DType::kBF16;

template <class T>
void check(testing::AttentionCase c) {
  c.config.dtype = kTypeOf<T>;
  testing::AttentionData<T> data(c);
  const testing::EmulatedLaunch launch;
  run_forward<T>(data.config(), flash_params(data.config(), data.tensors()), launch);
  data.expect_forward(c.name);
  run_backward<T>(data.config(), flash_params(data.config(), data.tensors()), launch);
  data.expect_backward(c.name);
}

class EmulatedFlash : public ::testing::TestWithParam<testing::AttentionCase> {
 protected:
  void SetUp() override {
    if (!testing::kCanEmulate) GTEST_SKIP() << "no emulation under sanitizers";
  }
};

TEST_P(EmulatedFlash, F32EqualsFloat64) { check<F32>(GetParam()); }
TEST_P(EmulatedFlash, F16EqualsFloat64) { check<F16>(GetParam()); }
TEST_P(EmulatedFlash, BF16EqualsFloat64) { check<BF16>(GetParam()); }

INSTANTIATE_TEST_SUITE_P(Cases, EmulatedFlash, ::testing::ValuesIn(testing::attention_cases()),
                         [](const auto& tested) { return tested.param.name; });

TEST(EmulatedFlash, RejectsBadInput) {
  const auto message = [](const FlashAttention& config) -> std::string {
    try {
      flash_params(config, {});
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  using ::testing::HasSubstr;
  FlashAttention good{.dtype = DType::kF16,
                      .batch = 1,
                      .q_len = 4,
                      .k_len = 4,
                      .q_heads = 2,
                      .kv_heads = 1,
                      .head_dim = 64};
  EXPECT_EQ(message(good), "no error");
  FlashAttention bad = good;
  bad.dtype = DType::kF64;
  EXPECT_THAT(message(bad), HasSubstr("expected f32, f16 or bf16, got"));
  bad = good;
  bad.head_dim = 257;
  EXPECT_THAT(message(bad), HasSubstr("1 to 256, got 257"));
  bad = good;
  bad.kv_heads = 3;
  EXPECT_THAT(message(bad), HasSubstr("got 2 and 3"));
  bad = good;
  bad.window_left = -2;
  EXPECT_THAT(message(bad), HasSubstr("got -2 and -1"));
  bad = good;
  bad.dropout = 1;
  EXPECT_THAT(message(bad), HasSubstr("got 1"));
}

}  // namespace
}  // namespace mneme::cuda
