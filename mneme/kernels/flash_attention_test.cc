#include "mneme/kernels/flash_attention.h"

#include <gtest/gtest.h>

#include "mneme/kernels/flash_shape_testing.h"
#include "mneme/kernels/flash_testing.h"
#include "mneme/kernels/targets_testing.h"
#include "tests/support/error_of.h"

namespace mneme {
namespace {

using testing::error_of;
using testing::exact_flash;
using testing::flash_shape;
using testing::FlashAnswer;
using testing::FlashLayout;
using testing::FlashProblem;
using testing::largest_error;
using testing::plain_flash;
using testing::random_problem;
using testing::run_flash;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Odd lengths and head sizes, one to many KV heads, more queries than keys and fewer; each with
// every kind of mask and score.
std::vector<FlashAttention> varied_shapes() {
  static const std::vector<float> slopes = {0.5f, 0.25f, 0.125f, 1, 0.03f, 2};
  std::vector<FlashAttention> all;
  for (const auto& c : {flash_shape(1, 1, 1, 1, 1, 1), flash_shape(3, 63, 63, 2, 1, 64),
                        flash_shape(1, 100, 300, 6, 2, 20), flash_shape(2, 131, 70, 3, 3, 37),
                        flash_shape(1, 5, 257, 4, 1, 80), flash_shape(1, 70, 129, 2, 2, 255)}) {
    all.push_back(c);
    all.push_back(c);
    all.back().causal = true;
    all.push_back(c);
    all.back().window_left = 30;
    all.back().window_right = 4;
    all.back().softcap = 1.5;
    all.push_back(c);
    all.back().window_right = 0;
    all.back().alibi_slopes = slopes.data();
    all.push_back(c);
    all.back().causal = true;
    all.back().window_left = 17;
    all.back().alibi_slopes = slopes.data();
    all.back().alibi_per_batch = true;
    all.back().softcap = 30;
    all.back().dropout = 0.3;
    all.back().dropout_seed = 0x123456789abcdef0u;
    all.back().dropout_offset = 7;
  }
  return all;
}

// What a problem's answers are judged by, made once for all targets.
struct Judge {
  explicit Judge(const FlashProblem& problem)
      : want(exact_flash(problem, false)), plain(plain_flash(problem, false)) {}
  void expect(const FlashAnswer& got, double floor) const {
    // The floor is a rounding of a result of size one.
    EXPECT_LE(largest_error(got.o, want.o), 2 * largest_error(plain.o, want.o) + floor);
    EXPECT_LE(largest_error(got.lse, want.lse), 2 * largest_error(plain.lse, want.lse) + 5e-7);
  }
  FlashAnswer want, plain;
};

TEST(FlashAttention, MatchesTheDefinitionOnEveryTarget) {
  ThreadPool pool(2);
  for (FlashAttention config : varied_shapes()) {
    std::vector<float> slopes(static_cast<size_t>(config.batch * config.q_heads));
    for (size_t i = 0; i < slopes.size(); ++i) slopes[i] = 0.9f / static_cast<float>(i + 1);
    if (config.alibi_slopes != nullptr) config.alibi_slopes = slopes.data();
    const FlashProblem problem = random_problem(config, 1);
    SCOPED_TRACE(::testing::Message() << config.q_len << " queries, " << config.k_len << " keys, "
                                      << config.head_dim << " causal " << config.causal);
    const Judge judge(problem);
    for_each_target(
        [&] { judge.expect(run_flash(problem, pool, false, FlashLayout::kPadded), 2e-7); });
  }
}

TEST(FlashAttention, MatchesTheDefinitionInSixteenBits) {
  ThreadPool pool(2);
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    for (FlashAttention config : varied_shapes()) {
      if (config.alibi_per_batch && config.batch > 1) config.alibi_per_batch = false;
      config.dtype = dtype;
      const FlashProblem problem = random_problem(config, 2);
      const Judge judge(problem);
      const double unit = dtype == DType::kBF16 ? 0x1p-8 : 0x1p-11;
      for_each_target([&] {
        for (const bool products : {true, false}) {
          FlashProblem same = problem;
          same.config.bf16_products = products;
          judge.expect(run_flash(same, pool, false), unit);
        }
      });
    }
  }
}

TEST(FlashAttention, MatchesTheDefinitionInFloat64) {
  ThreadPool pool(2);
  for (FlashAttention config : varied_shapes()) {
    if (config.alibi_per_batch && config.batch > 1) config.alibi_per_batch = false;
    config.dtype = DType::kF64;
    const FlashProblem problem = random_problem(config, 3);
    const FlashAnswer want = exact_flash(problem, false), got = run_flash(problem, pool, false);
    EXPECT_LE(largest_error(got.o, want.o), 1e-13);
    EXPECT_LE(largest_error(got.lse, want.lse), 1e-13);
  }
}

TEST(FlashAttention, LongSequence) {
  ThreadPool pool(2);
  FlashAttention config = flash_shape(1, 1000, 1000, 2, 1, 64);
  config.causal = true;
  const FlashProblem problem = random_problem(config, 4);
  Judge(problem).expect(run_flash(problem, pool, false), 2e-7);
}

TEST(FlashAttention, LayoutsAndThreadsGiveTheSameBits) {
  ThreadPool one(1), three(3);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    FlashAttention config = flash_shape(2, 150, 200, 6, 2, 48);
    config.dtype = dtype;
    config.causal = true;
    const FlashProblem problem = random_problem(config, 5);
    const FlashAnswer want = run_flash(problem, one, false);
    for (const FlashLayout layout : {FlashLayout::kHeadMajor, FlashLayout::kPadded}) {
      const FlashAnswer got = run_flash(problem, three, false, layout);
      EXPECT_EQ(got.o, want.o);
      EXPECT_EQ(got.lse, want.lse);
    }
  }
}

TEST(FlashAttention, AQueryDoesNotDependOnWhoIsAskedWithIt) {
  ThreadPool pool(2);
  for (const int64_t left : {-1, 40}) {
    FlashAttention config = flash_shape(1, 200, 333, 4, 2, 40);
    config.causal = true;
    config.window_left = left;
    config.softcap = 2;
    const FlashProblem all = random_problem(config, 6);
    const FlashAnswer want = run_flash(all, pool, false);
    const int64_t row = config.q_heads * config.head_dim;
    // Prefill in chunks: queries first..first + count when keys behind them do not exist yet.
    for (const auto& [first, count] : {std::pair<int64_t, int64_t>{0, 1}, {17, 63}, {199, 1}}) {
      FlashProblem part = all;
      part.config.q_len = count;
      part.config.k_len = 133 + first + count;
      part.q.assign(all.q.begin() + first * row, all.q.begin() + (first + count) * row);
      part.dout = part.q;
      part.k.resize(static_cast<size_t>(part.k_size()));
      part.v.resize(static_cast<size_t>(part.k_size()));
      const FlashAnswer got = run_flash(part, pool, false);
      EXPECT_EQ(got.o, std::vector<double>(want.o.begin() + first * row,
                                           want.o.begin() + (first + count) * row));
    }
  }
}

TEST(FlashAttention, PackedSequencesEqualSingleOnes) {
  ThreadPool pool(2);
  const std::vector<int32_t> cu_q = {0, 5, 5, 105, 110, 110}, cu_k = {0, 9, 40, 140, 140, 140};
  FlashAttention config = flash_shape(5, 110, 140, 4, 2, 24);
  config.causal = true;
  config.cu_q = cu_q.data();
  config.cu_k = cu_k.data();
  const FlashProblem packed = random_problem(config, 7);
  const FlashAnswer got = run_flash(packed, pool, false);
  for (size_t b = 0; b + 1 < cu_q.size(); ++b) {
    FlashProblem single = packed;
    single.config.batch = 1;
    single.config.cu_q = single.config.cu_k = nullptr;
    single.config.q_len = cu_q[b + 1] - cu_q[b];
    single.config.k_len = cu_k[b + 1] - cu_k[b];
    const int64_t row = 4 * 24, key_row = 2 * 24;
    single.q.assign(packed.q.begin() + cu_q[b] * row, packed.q.begin() + cu_q[b + 1] * row);
    single.dout = single.q;
    single.k.assign(packed.k.begin() + cu_k[b] * key_row, packed.k.begin() + cu_k[b + 1] * key_row);
    single.v.assign(packed.v.begin() + cu_k[b] * key_row, packed.v.begin() + cu_k[b + 1] * key_row);
    const FlashAnswer want = run_flash(single, pool, false);
    EXPECT_EQ(want.o, std::vector<double>(got.o.begin() + cu_q[b] * row,
                                          got.o.begin() + cu_q[b + 1] * row));
    for (int64_t h = 0; h < 4; ++h) {
      for (int64_t i = 0; i < single.config.q_len; ++i) {
        EXPECT_EQ(want.lse[static_cast<size_t>(h * single.config.q_len + i)],
                  got.lse[static_cast<size_t>(h * 110 + cu_q[b] + i)]);
      }
    }
  }
}

TEST(FlashAttention, RowsThatSeeNothingAreZeroWithInfiniteLse) {
  ThreadPool pool(2);
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16, DType::kF64}) {
    FlashAttention config = flash_shape(1, 90, 20, 2, 1, 8);
    config.dtype = dtype;
    config.causal = true;
    for (const int64_t keys : {20, 0}) {
      config.k_len = keys;
      const FlashAnswer got = run_flash(random_problem(config, 8), pool, false);
      const auto empty = static_cast<size_t>(90 - keys);
      for (size_t i = 0; i < empty; ++i) {
        EXPECT_EQ(got.lse[i], kInfinity);
        for (size_t x = 0; x < 16; ++x) EXPECT_EQ(got.o[i * 16 + x], 0);
      }
      if (empty < 90) {
        EXPECT_LT(got.lse[empty], kInfinity);
      }
    }
  }
}

TEST(FlashAttention, EmptyBatchAndNoQueriesWriteNothing) {
  ThreadPool pool(2);
  EXPECT_TRUE(run_flash(random_problem(flash_shape(0, 5, 5, 2, 1, 8), 9), pool, true).o.empty());
  EXPECT_TRUE(run_flash(random_problem(flash_shape(2, 0, 5, 2, 1, 8), 9), pool, false).o.empty());
}

TEST(FlashAttention, NaNReachesItsOwnQueryOnly) {
  ThreadPool pool(2);
  FlashProblem problem = random_problem(flash_shape(1, 80, 80, 1, 1, 16), 10);
  problem.q[5 * 16 + 3] = std::nanf("");
  const FlashAnswer got = run_flash(problem, pool, false);
  for (size_t i = 0; i < got.o.size(); ++i) EXPECT_EQ(std::isnan(got.o[i]), i / 16 == 5) << i;
  for (size_t i = 0; i < got.lse.size(); ++i) EXPECT_EQ(std::isnan(got.lse[i]), i == 5) << i;
}

TEST(FlashAttention, LargeScoresDoNotOverflow) {
  ThreadPool pool(2);
  FlashAttention config = flash_shape(1, 33, 70, 2, 2, 16);
  config.scale = 100;
  const FlashProblem problem = random_problem(config, 11);
  Judge(problem).expect(run_flash(problem, pool, false), 2e-7);
  // A scale below zero turns the order of the scores round.
  FlashProblem turned = problem;
  turned.config.scale = -0.3;
  Judge(turned).expect(run_flash(turned, pool, false), 2e-7);
}

TEST(FlashAttention, ScratchDoesNotGrowWithTheSequence) {
  ThreadPool pool(2);
  AttentionScratch short_scratch, long_scratch;
  run_flash(random_problem(flash_shape(1, 64, 128, 1, 1, 64), 12), pool, false,
            FlashLayout::kTokenMajor, &short_scratch);
  run_flash(random_problem(flash_shape(1, 640, 1280, 1, 1, 64), 12), pool, false,
            FlashLayout::kTokenMajor, &long_scratch);
  EXPECT_EQ(short_scratch.bytes(), long_scratch.bytes());
  EXPECT_LT(long_scratch.bytes(), 1 << 20);
}

TEST(FlashAttention, SaysWhatDoesNotFit) {
  ThreadPool pool(1);
  AttentionScratch scratch;
  const FlashAttention good = flash_shape(1, 4, 4, 4, 2, 8);
  const auto error = [&](auto change) {
    FlashAttention config = good;
    change(config);
    return error_of([&] { flash_forward(config, {}, {}, {}, {}, nullptr, scratch, pool); });
  };
  EXPECT_EQ(error([](auto& c) { c.kv_heads = 3; }),
            "flash attention: query heads must be a multiple of KV heads, got 4 and 3");
  EXPECT_EQ(error([](auto& c) { c.head_dim = 0; }),
            "flash attention: head_dim must be 1 to 4096, got 0");
  EXPECT_EQ(error([](auto& c) { c.window_left = -2; }),
            "flash attention: window must be -1 (unlimited) or more on each side, got (-2, -1)");
  EXPECT_EQ(error([](auto& c) { c.softcap = -1; }),
            "flash attention: softcap must be 0 (none) or positive, got -1");
  EXPECT_EQ(error([](auto& c) { c.dropout = 1; }),
            "flash attention: dropout must be in [0, 1), got 1");
  EXPECT_EQ(error([](auto& c) { c.dtype = DType::kI8; }),
            "flash attention: expected F32, BF16, F16 or F64, got I8");
  EXPECT_EQ(error([](auto& c) { c.scale = std::nan(""); }),
            "flash attention: scale must be finite, got nan");
  EXPECT_EQ(error([](auto& c) { c.batch = -1; }),
            "flash attention: batch, q_len and k_len must not be negative, got -1, 4, 4");
  static const int32_t whole[] = {0, 4}, falling[] = {0, -1}, short_of[] = {0, 3}, late[] = {1, 4};
  EXPECT_EQ(error([](auto& c) { c.cu_q = whole; }),
            "flash attention: packed sequences need both cu_q and cu_k");
  EXPECT_EQ(error([](auto& c) { c.cu_q = whole, c.cu_k = falling; }),
            "flash attention: cu_k must not decrease, got 0 then -1 at 1");
  EXPECT_EQ(error([](auto& c) { c.cu_q = whole, c.cu_k = short_of; }),
            "flash attention: the last of cu_k must be the number of packed tokens 4, got 3");
  EXPECT_EQ(error([](auto& c) { c.cu_q = late, c.cu_k = whole; }),
            "flash attention: cu_q[0] must be 0, got 1");
}

}  // namespace
}  // namespace mneme
