#include "mneme/kernels/decoder_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "mneme/core/error.h"
#include "mneme/kernels/row_parts.h"
#include "mneme/kernels/targets_testing.h"
#include "mneme/kernels/weight_testing.h"

namespace mneme {
namespace {

struct Shape {
  int64_t rows, dim;
};
// Below, at and above the size from which threads are used; rows longer than a task.
constexpr Shape kShapes[] = {{0, 64},   {1, 576},  {3, 576},   {13, 576},
                             {15, 576}, {100, 63}, {200, 576}, {3, 20000}};
constexpr float kEpsilon = 1e-5f;

TEST(DecoderRows, PartsCoverEveryRowOnce) {
  ThreadPool pool(3);
  for (const Shape& s : kShapes) {
    std::vector<std::atomic<int>> seen(static_cast<size_t>(s.rows));
    for_row_parts(s.rows, s.dim, pool, [&](int64_t first, int64_t count) {
      for (int64_t r = first; r < first + count; ++r) ++seen[static_cast<size_t>(r)];
    });
    for (const auto& count : seen) EXPECT_EQ(count.load(), 1);
  }
}

TEST(DecoderRows, NormAndActivationsHaveTheBitsOfOneThread) {
  for_each_target([] {
    for (const int threads : {1, 2, 3}) {
      ThreadPool pool(threads);
      for (const Shape& s : kShapes) {
        const int64_t n = s.rows * s.dim;
        const std::vector<float> x = random_floats(n, 1), up = random_floats(n, 2),
                                 weight = random_floats(s.dim, 3);
        std::vector<float> got = x, want = x;
        rms_norm(got.data(), weight.data(), kEpsilon, s.rows, s.dim, got.data(), pool);
        rms_norm(want.data(), weight.data(), kEpsilon, s.rows, s.dim, want.data());
        EXPECT_EQ(got, want);
        got = want = x;
        silu_mul(got.data(), up.data(), n, pool);
        silu_mul(want.data(), up.data(), n);
        EXPECT_EQ(got, want);
        got = want = x;
        gelu_tanh_mul(got.data(), up.data(), n, pool);
        gelu_tanh_mul(want.data(), up.data(), n);
        EXPECT_EQ(got, want);
      }
    }
  });
}

TEST(DecoderRows, AddRmsNormEqualsItsPartsOneAfterTheOther) {
  for_each_target([] {
    for (const int threads : {1, 2}) {
      ThreadPool pool(threads);
      for (const Shape& s : kShapes) {
        const int64_t n = s.rows * s.dim;
        const std::vector<float> x = random_floats(n, 4), y = random_floats(n, 5),
                                 post = random_floats(s.dim, 6), weight = random_floats(s.dim, 7);
        for (const bool with_post : {false, true}) {
          std::vector<float> sum = x, branch = y, normed(x.size());
          if (with_post)
            rms_norm(branch.data(), post.data(), kEpsilon, s.rows, s.dim, branch.data());
          add(sum.data(), branch.data(), n);
          rms_norm(sum.data(), weight.data(), kEpsilon, s.rows, s.dim, normed.data());
          const float* post_weight = with_post ? post.data() : nullptr;
          std::vector<float> got_x = x, got = y;
          add_rms_norm(got_x.data(), got.data(), post_weight, weight.data(), kEpsilon, s.rows,
                       s.dim, got.data(), pool);
          EXPECT_EQ(got_x, sum);
          EXPECT_EQ(got, normed);
          std::vector<float> last_x = x, last_y = y;
          add_rms_norm(last_x.data(), last_y.data(), post_weight, nullptr, kEpsilon, s.rows, s.dim,
                       nullptr, pool);
          EXPECT_EQ(last_x, sum);
        }
      }
    }
  });
}

TEST(DecoderRows, NormRopeEqualsItsPartsOneAfterTheOther) {
  for_each_target([] {
    for (const int threads : {1, 2}) {
      ThreadPool pool(threads);
      for (const int64_t tokens : {0, 1, 7, 100}) {
        const int64_t dim = 34, q_heads = 9, kv_heads = 3;
        std::vector<float> cosines(static_cast<size_t>(tokens * dim / 2)), sines = cosines;
        rope_table(50, tokens, dim, 10000, 1, nullptr, cosines.data(), sines.data());
        const std::vector<float> q = random_floats(tokens * q_heads * dim, 1),
                                 k = random_floats(tokens * kv_heads * dim, 2),
                                 q_weight = random_floats(dim, 3), k_weight = random_floats(dim, 4);
        for (const RopePairs pairs : {RopePairs::kHalves, RopePairs::kInterleaved}) {
          for (const bool normed : {false, true}) {
            std::vector<float> want_q = q, want_k = k, got_q = q, got_k = k;
            if (normed) {
              rms_norm(q.data(), q_weight.data(), kEpsilon, tokens * q_heads, dim, want_q.data());
              rms_norm(k.data(), k_weight.data(), kEpsilon, tokens * kv_heads, dim, want_k.data());
            }
            rope(want_q.data(), tokens, q_heads, dim, pairs, cosines.data(), sines.data());
            rope(want_k.data(), tokens, kv_heads, dim, pairs, cosines.data(), sines.data());
            const RotaryRows parts[] = {
                {got_q.data(), q_heads, normed ? q_weight.data() : nullptr},
                {got_k.data(), kv_heads, normed ? k_weight.data() : nullptr}};
            norm_rope(parts, kEpsilon, tokens, dim, pairs, cosines.data(), sines.data(), pool);
            EXPECT_EQ(got_q, want_q);
            EXPECT_EQ(got_k, want_k);
          }
        }
      }
    }
  });
}

TEST(DecoderRows, RejectsBadInput) {
  const auto message = [](const auto& call) -> std::string {
    try {
      call();
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  using ::testing::HasSubstr;
  ThreadPool pool(1);
  float x[4] = {};
  EXPECT_THAT(message([&] { add_rms_norm(x, x, nullptr, x, 0, 1, 0, x, pool); }),
              HasSubstr("add_rms_norm: expected rows >= 0 and dim > 0, got 1 x 0"));
  const RotaryRows odd[] = {{x, 1, nullptr}}, negative[] = {{x, -1, nullptr}};
  EXPECT_THAT(message([&] { norm_rope(odd, 0, 1, 3, RopePairs::kHalves, x, x, pool); }),
              HasSubstr("dim must be positive and even, got 3"));
  EXPECT_THAT(message([&] { norm_rope(negative, 0, 1, 4, RopePairs::kHalves, x, x, pool); }),
              HasSubstr("heads must not be negative, got -1"));
}

}  // namespace
}  // namespace mneme
