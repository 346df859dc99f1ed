#include "mneme/kernels/flash_dropout.h"

#include <gtest/gtest.h>

#include "mneme/kernels/flash_testing.h"
#include "mneme/kernels/targets_testing.h"

namespace mneme {
namespace {

using testing::FlashProblem;
using testing::random_problem;
using testing::run_flash;

// The known answers that the authors of Philox publish with their library (Random123, kat_vectors).
TEST(FlashDropout, PhiloxGivesItsKnownAnswers) {
  EXPECT_EQ(philox({0, 0, 0, 0}, 0),
            (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox({~0u, ~0u, ~0u, ~0u}, ~uint64_t{0}),
            (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0x299f31d0a4093822u),
            (std::array<uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// Attention whose result shows the mask: all scores 0, values the unit vectors.
FlashProblem visible_mask(int64_t keys, double p) {
  FlashAttention config;
  config.batch = 2;
  config.q_len = 150;
  config.k_len = keys;
  config.q_heads = 4;
  config.kv_heads = 2;
  config.head_dim = keys;
  config.dropout = p;
  config.dropout_seed = 99;
  FlashProblem problem = random_problem(config, 1);
  std::fill(problem.q.begin(), problem.q.end(), 0.0f);
  std::fill(problem.v.begin(), problem.v.end(), 0.0f);
  for (int64_t t = 0; t < 2 * keys; ++t) {
    for (int64_t h = 0; h < 2; ++h) {
      problem.v[static_cast<size_t>((t * 2 + h) * keys + t % keys)] = 1;
    }
  }
  return problem;
}

TEST(FlashDropout, TheMaskIsTheFunctionInTheHeaderOnEveryTarget) {
  ThreadPool pool(2);
  for (const int64_t keys : {30, 131}) {
    const FlashProblem problem = visible_mask(keys, 0.4);
    for_each_target([&] {
      const std::vector<double> o = run_flash(problem, pool, false).o;
      size_t at = 0;
      for (int64_t b = 0; b < 2; ++b) {
        for (int64_t i = 0; i < 150; ++i) {
          for (int64_t h = 0; h < 4; ++h) {
            for (int64_t j = 0; j < keys; ++j, ++at) {
              const bool keeps = dropout_keeps(99, 0, b * 4 + h, i, j, 0.4);
              ASSERT_NEAR(o[at], keeps ? 1 / 0.6 / static_cast<double>(keys) : 0, 1e-6)
                  << b << " " << i << " " << h << " " << j;
            }
          }
        }
      }
    });
  }
}

TEST(FlashDropout, KeepsTheShareAskedForIndependently) {
  for (const double p : {0.1, 0.5, 0.9}) {
    const int64_t rows = 400, columns = 400;
    double kept = 0, pairs = 0, below = 0, other = 0;
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) {
        const bool here = dropout_keeps(1, 0, 3, i, j, p);
        kept += here;
        pairs += here && dropout_keeps(1, 0, 3, i, j + 1, p);
        below += here && dropout_keeps(1, 0, 3, i + 1, j, p);
        other += here && dropout_keeps(1, 1, 3, i, j, p);
      }
    }
    const double n = static_cast<double>(rows * columns), q = 1 - p;
    // Five standard deviations of a binomial share.
    const auto bound = [n](double share) { return 5 * std::sqrt(share * (1 - share) / n); };
    EXPECT_NEAR(kept / n, q, bound(q));
    for (const double both : {pairs, below, other}) {
      EXPECT_NEAR(both / n, q * q, 2 * bound(q * q));
    }
  }
}

TEST(FlashDropout, SeedAndOffsetChangeTheMask) {
  ThreadPool pool(1);
  FlashProblem problem = visible_mask(30, 0.5);
  const auto first = run_flash(problem, pool, false).o;
  EXPECT_EQ(run_flash(problem, pool, false).o, first);
  problem.config.dropout_offset = 1;
  EXPECT_NE(run_flash(problem, pool, false).o, first);
  problem.config.dropout_offset = 0;
  problem.config.dropout_seed = uint64_t{99} << 32;
  EXPECT_NE(run_flash(problem, pool, false).o, first);
}

}  // namespace
}  // namespace mneme
