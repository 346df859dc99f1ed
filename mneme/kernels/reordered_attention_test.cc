#include "mneme/kernels/reordered_attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "mneme/core/error.h"
#include "mneme/kernels/targets_testing.h"
#include "mneme/kernels/weight_testing.h"

namespace mneme {
namespace {

// Plain attention: scores, maximum, exponentials, sum, values.
template <typename Real>
std::vector<Real> naive(const ReorderedAttention& c, const std::vector<float>& q,
                        const std::vector<float>& k, const std::vector<float>& v) {
  std::vector<Real> o(static_cast<size_t>(c.rows * c.heads * c.v_dim), Real{0});
  std::vector<Real> scores(static_cast<size_t>(c.rows));
  const auto at = [&](const std::vector<float>& x, int64_t row, int64_t head, int64_t dim,
                      int64_t i) {
    return static_cast<Real>(x[static_cast<size_t>((row * c.heads + head) * dim + i)]);
  };
  for (int64_t h = 0; h < c.heads; ++h) {
    for (int64_t i = 0; i < c.rows; ++i) {
      Real top = -std::numeric_limits<Real>::infinity(), sum = 0;
      for (int64_t j = 0; j < c.rows; ++j) {
        Real dot = 0;
        for (int64_t d = 0; d < c.k_dim; ++d)
          dot += at(q, i, h, c.k_dim, d) * at(k, j, h, c.k_dim, d);
        scores[static_cast<size_t>(j)] = static_cast<Real>(c.scale) * dot;
        top = std::max(top, scores[static_cast<size_t>(j)]);
      }
      Real* out = o.data() + (i * c.heads + h) * c.v_dim;
      for (int64_t j = 0; j < c.rows; ++j) {
        const Real weight = std::exp(scores[static_cast<size_t>(j)] - top);
        sum += weight;
        for (int64_t d = 0; d < c.v_dim; ++d) out[d] += weight * at(v, j, h, c.v_dim, d);
      }
      for (int64_t d = 0; d < c.v_dim; ++d) out[d] /= sum;
    }
  }
  return o;
}

std::vector<float> attend(const ReorderedAttention& c, const std::vector<float>& q,
                          const std::vector<float>& k, const std::vector<float>& v, int threads) {
  std::vector<float> o(static_cast<size_t>(c.rows * c.heads * c.v_dim),
                       std::numeric_limits<float>::quiet_NaN());
  AttentionScratch scratch;
  std::fill_n(scratch.reserve(4096), 4096, std::numeric_limits<float>::quiet_NaN());
  ThreadPool pool(threads);
  reordered_attention(c, q.data(), k.data(), v.data(), o.data(), {}, scratch, pool);
  return o;
}

template <typename Real>
double worst(const std::vector<Real>& got, const std::vector<double>& want) {
  double most = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double error = std::abs(static_cast<double>(got[i]) - want[i]);
    if (!(error <= most)) most = error;
  }
  return most;
}

TEST(ReorderedAttention, EqualsPlainAttention) {
  for_each_target([] {
    struct Shape {
      int64_t rows, heads, k_dim, v_dim, parallel;
    };
    for (const Shape& s : {Shape{1, 1, 1, 1, 1},
                           {1, 3, 64, 64, 8},
                           {2, 1, 5, 3, 2},
                           {13, 1, 8, 8, 4},
                           {63, 3, 64, 64, 4},
                           {100, 2, 17, 33, 1},
                           {100, 2, 64, 48, 99},
                           {33, 1, 80, 80, 1000},
                           {129, 3, 64, 64, 20}}) {
      const ReorderedAttention c{s.rows, s.heads, s.k_dim, s.v_dim, 0.3f, s.parallel};
      const std::vector<float> q = random_floats(s.rows * s.heads * s.k_dim, 1),
                               k = random_floats(s.rows * s.heads * s.k_dim, 2),
                               v = random_floats(s.rows * s.heads * s.v_dim, 3);
      const std::vector<double> want = naive<double>(c, q, k, v);
      const double limit = 2 * worst(naive<float>(c, q, k, v), want) + 5e-7;
      const std::vector<float> got = attend(c, q, k, v, 1);
      EXPECT_LE(worst(got, want), limit) << s.rows << " rows, " << s.parallel << " at once";
      EXPECT_EQ(attend(c, q, k, v, 2), got);
    }
  });
}

TEST(ReorderedAttention, NothingToDo) {
  EXPECT_TRUE(attend({0, 2, 4, 4, 1, 3}, {}, {}, {}, 2).empty());
  EXPECT_TRUE(attend({5, 0, 4, 4, 1, 3}, {}, {}, {}, 2).empty());
}

TEST(ReorderedAttention, RejectsBadInput) {
  const auto message = [](const ReorderedAttention& c) -> std::string {
    try {
      attend(c, {}, {}, {}, 1);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  using ::testing::HasSubstr;
  EXPECT_THAT(message({0, 1, 0, 4, 1, 3}), HasSubstr("got 0, 1, 0 and 4"));
  EXPECT_THAT(message({0, 1, 4, 4, std::numeric_limits<float>::infinity(), 3}),
              HasSubstr("expected a finite scale, got inf"));
  EXPECT_THAT(message({0, 1, 4, 4, 1, 0}), HasSubstr("expected at least one slot, got 0"));
}

}  // namespace
}  // namespace mneme
