#include <gtest/gtest.h>

#include "mneme/kernels/flash_shape_testing.h"
#include "mneme/kernels/flash_testing.h"
#include "mneme/kernels/targets_testing.h"

namespace mneme {
namespace {

using testing::exact_flash;
using testing::flash_shape;
using testing::FlashAnswer;
using testing::FlashLayout;
using testing::FlashProblem;
using testing::largest_error;
using testing::plain_flash;
using testing::random_problem;
using testing::run_flash;

const std::vector<float>& slopes() {
  static const std::vector<float> values = {0.5f, 0.25f, 0.125f, 1, 0.03f, 0.7f};
  return values;
}

std::vector<FlashAttention> varied_shapes() {
  std::vector<FlashAttention> all;
  for (const auto& c : {flash_shape(1, 1, 1, 1, 1, 1), flash_shape(3, 63, 63, 2, 1, 64),
                        flash_shape(1, 100, 300, 6, 2, 20), flash_shape(2, 131, 70, 3, 3, 37),
                        flash_shape(1, 5, 257, 4, 1, 80), flash_shape(1, 70, 2100, 2, 1, 16)}) {
    all.push_back(c);
    all.back().causal = true;
    all.push_back(c);
    all.back().window_left = 30;
    all.back().window_right = 4;
    all.back().softcap = 1.5;
    all.push_back(c);
    all.back().causal = true;
    all.back().window_left = 17;
    all.back().alibi_slopes = slopes().data();
    all.back().softcap = 3;
    all.back().dropout = 0.3;
    all.back().dropout_seed = 0x123456789abcdef0u;
    all.back().dropout_offset = 7;
  }
  return all;
}

// What a problem's gradients are judged by, made once for all targets.
struct Judge {
  explicit Judge(const FlashProblem& problem)
      : want(exact_flash(problem)), plain(plain_flash(problem)) {}
  void expect(const FlashAnswer& got, double floor) const {
    const auto part = [&](const char* name, auto gradient) {
      const double allowed = 3 * largest_error(plain.*gradient, want.*gradient) + floor;
      EXPECT_LE(largest_error(got.*gradient, want.*gradient), allowed) << name;
    };
    part("dq", &FlashAnswer::dq);
    part("dk", &FlashAnswer::dk);
    part("dv", &FlashAnswer::dv);
  }
  FlashAnswer want, plain;
};

TEST(FlashBackward, MatchesTheDefinitionOnEveryTarget) {
  ThreadPool pool(2);
  for (const FlashAttention& config : varied_shapes()) {
    const FlashProblem problem = random_problem(config, 1);
    SCOPED_TRACE(::testing::Message() << config.q_len << " queries, " << config.k_len << " keys, "
                                      << config.head_dim << " softcap " << config.softcap);
    const Judge judge(problem);
    for_each_target(
        [&] { judge.expect(run_flash(problem, pool, true, FlashLayout::kPadded), 1e-6); });
  }
}

TEST(FlashBackward, MatchesTheDefinitionInSixteenBits) {
  ThreadPool pool(2);
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    for (FlashAttention config : varied_shapes()) {
      config.dtype = dtype;
      FlashProblem problem = random_problem(config, 2);
      const Judge judge(problem);
      for_each_target([&] {
        for (const bool products : {true, false}) {
          problem.config.bf16_products = products;
          judge.expect(run_flash(problem, pool, true, FlashLayout::kPadded),
                       dtype == DType::kBF16 ? 0x1p-7 : 0x1p-10);
        }
      });
    }
  }
}

// The sum of o * dout, whose gradients are dq, dk and dv.
double loss(const FlashProblem& problem, ThreadPool& pool) {
  const FlashAnswer answer = run_flash(problem, pool, false);
  double sum = 0;
  for (size_t i = 0; i < answer.o.size(); ++i) sum += answer.o[i] * double{problem.dout[i]};
  return sum;
}

TEST(FlashBackward, AgreesWithFiniteDifferences) {
  ThreadPool pool(1);
  for (FlashAttention config : {flash_shape(1, 7, 11, 4, 2, 5), flash_shape(2, 9, 3, 2, 1, 3),
                                flash_shape(1, 1, 63, 3, 3, 7)}) {
    config.dtype = DType::kF64;
    config.causal = true;
    config.softcap = 2;
    config.dropout = 0.25;
    config.alibi_slopes = slopes().data();
    FlashProblem problem = random_problem(config, 3);
    const FlashAnswer got = run_flash(problem, pool, true);
    const auto check = [&](std::vector<float>& x, const std::vector<double>& gradient) {
      for (size_t i = 0; i < x.size(); ++i) {
        // Steps of a power of two, which floats hold exactly.
        const float before = x[i], step = 0x1p-12f;
        x[i] = before + step;
        const double up = loss(problem, pool), above = x[i];
        x[i] = before - step;
        const double down = loss(problem, pool), below = x[i];
        x[i] = before;
        EXPECT_NEAR((up - down) / (above - below), gradient[i], 1e-6);
      }
    };
    check(problem.q, got.dq);
    check(problem.k, got.dk);
    check(problem.v, got.dv);
  }
}

TEST(FlashBackward, MatchesTheDefinitionInFloat64) {
  ThreadPool pool(2);
  for (FlashAttention config : varied_shapes()) {
    config.dtype = DType::kF64;
    const FlashProblem problem = random_problem(config, 4);
    const FlashAnswer want = exact_flash(problem), got = run_flash(problem, pool, true);
    EXPECT_LE(largest_error(got.dq, want.dq), 1e-12);
    EXPECT_LE(largest_error(got.dk, want.dk), 1e-12);
    EXPECT_LE(largest_error(got.dv, want.dv), 1e-12);
  }
}

TEST(FlashBackward, ThreadsRunsAndLayoutsGiveTheSameBits) {
  ThreadPool one(1), two(2), five(5);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    FlashAttention config = flash_shape(1, 400, 700, 4, 2, 32);
    config.dtype = dtype;
    config.causal = true;
    config.dropout = 0.1;
    const FlashProblem problem = random_problem(config, 5);
    const FlashAnswer want = run_flash(problem, one, true);
    for (int run = 0; run < 5; ++run) {
      for (ThreadPool* pool : {&two, &five}) {
        const FlashAnswer got = run_flash(
            problem, *pool, true, run % 2 == 0 ? FlashLayout::kHeadMajor : FlashLayout::kPadded);
        ASSERT_EQ(got.dq, want.dq);
        ASSERT_EQ(got.dk, want.dk);
        ASSERT_EQ(got.dv, want.dv);
      }
    }
  }
}

TEST(FlashBackward, PackedSequencesEqualTheDefinition) {
  ThreadPool pool(2);
  const std::vector<int32_t> cu_q = {0, 5, 5, 105, 110, 110}, cu_k = {0, 9, 40, 240, 240, 245};
  FlashAttention config = flash_shape(5, 110, 245, 4, 2, 24);
  config.causal = true;
  config.dropout = 0.2;
  config.cu_q = cu_q.data();
  config.cu_k = cu_k.data();
  const FlashProblem problem = random_problem(config, 6);
  const FlashAnswer got = run_flash(problem, pool, true);
  Judge(problem).expect(got, 1e-6);
  // Keys of the sequence without queries.
  for (size_t i = 9 * 48; i < 40 * 48; ++i) EXPECT_EQ(got.dk[i], 0);
}

TEST(FlashBackward, WhatSeesNothingHasNoGradient) {
  ThreadPool pool(2);
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16, DType::kF64}) {
    FlashAttention config = flash_shape(1, 90, 20, 2, 1, 8);
    config.dtype = dtype;
    config.causal = true;
    const FlashAnswer got = run_flash(random_problem(config, 7), pool, true);
    for (size_t i = 0; i < 70 * 16; ++i) EXPECT_EQ(got.dq[i], 0);
    config.k_len = 0;
    for (const double x : run_flash(random_problem(config, 7), pool, true).dq) EXPECT_EQ(x, 0);
  }
}

TEST(FlashBackward, ScratchIsLinear) {
  ThreadPool pool(2);
  const auto bytes = [&](int64_t tokens) {
    AttentionScratch scratch;
    FlashAttention config = flash_shape(1, tokens, tokens, 1, 1, 64);
    config.causal = true;
    run_flash(random_problem(config, 8), pool, true, FlashLayout::kTokenMajor, &scratch);
    return scratch.bytes();
  };
  // One float32 copy of dq and a float a row, beside what the threads hold.
  EXPECT_EQ(bytes(1024) - bytes(512), 512 * 65 * 4);
}

}  // namespace
}  // namespace mneme
