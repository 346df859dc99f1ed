#include "mneme/kernels/grouped_softmax.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "mneme/core/rng.h"
#include "tests/support/error_of.h"
#include "tests/support/golden.h"

namespace mneme {
namespace {

using testing::error_of;

// The definition, column by column and without subtracting anything: for scores of moderate size.
std::vector<double> naive(const GroupedScores& shape, const std::vector<double>& scores) {
  const int64_t n = shape.columns;
  std::vector<double> weights(scores.size(), 0.0);
  std::vector<int64_t> section(static_cast<size_t>(n));
  for (int64_t j = 1; j < n; ++j) section[j] = section[j - 1] + shape.landmarks[j - 1];
  for (int64_t r = 0; r < shape.rows; ++r) {
    const auto seen = [&](int64_t j) {
      return shape.hidden == nullptr || shape.hidden[r * n + j] == 0;
    };
    int64_t current = -1;
    for (int64_t j = 0; j < n; ++j)
      if (seen(j)) current = std::max(current, section[j]);
    double top = 0;
    std::vector<double> inner(static_cast<size_t>(n) + 1), landmark(static_cast<size_t>(n) + 1);
    for (int64_t j = 0; j < n; ++j) {
      if (!seen(j)) continue;
      const double e = std::exp(scores[r * n + j]);
      const bool closed = section[j] < current;
      if (closed == (shape.landmarks[j] != 0)) top += e;
      (shape.landmarks[j] != 0 ? landmark : inner)[section[j]] += e;
    }
    for (int64_t j = 0; j < n; ++j) {
      if (!seen(j) || shape.landmarks[j] != 0) continue;
      const double e = std::exp(scores[r * n + j]);
      weights[r * n + j] =
          section[j] == current ? e / top : landmark[section[j]] / top * e / inner[section[j]];
    }
  }
  return weights;
}

struct Problem {
  std::vector<uint8_t> landmarks, hidden;
  std::vector<double> scores;
  GroupedScores shape;
};

Problem problem(int64_t rows, int64_t columns, double landmark_share, double hidden_share,
                uint64_t seed) {
  Problem p;
  Rng rng(seed);
  p.landmarks.resize(static_cast<size_t>(columns));
  for (uint8_t& flag : p.landmarks) flag = rng.uniform() < landmark_share;
  p.hidden.resize(static_cast<size_t>(rows * columns));
  for (uint8_t& flag : p.hidden) flag = rng.uniform() < hidden_share;
  p.scores.resize(static_cast<size_t>(rows * columns));
  for (double& score : p.scores) score = 3 * rng.normal();
  p.shape = {rows, columns, p.landmarks.data(), p.hidden.data()};
  return p;
}

double worst(const std::vector<double>& a, const std::vector<double>& b) {
  double error = 0;
  for (size_t i = 0; i < a.size(); ++i) error = std::max(error, std::abs(a[i] - b[i]));
  return error;
}

TEST(GroupedSoftmax, EqualsItsDefinition) {
  uint64_t seed = 1;
  for (const int64_t columns : {1, 2, 63, 100, 1000}) {
    for (const double landmarks : {0.0, 0.05, 0.5, 1.0}) {
      for (const double hidden : {0.0, 0.3, 1.0}) {
        SCOPED_TRACE(::testing::Message() << columns << " " << landmarks << " " << hidden);
        const Problem p = problem(3, columns, landmarks, hidden, ++seed);
        std::vector<double> got(p.scores.size(), std::nan(""));
        grouped_softmax(p.shape, p.scores.data(), got.data());
        const std::vector<double> want = naive(p.shape, p.scores);
        EXPECT_LT(worst(got, want), 1e-13);

        const std::vector<float> scores(p.scores.begin(), p.scores.end());
        std::vector<float> floats(scores.size(), std::nanf(""));
        grouped_softmax(p.shape, scores.data(), floats.data());
        EXPECT_LT(worst(std::vector<double>(floats.begin(), floats.end()), want), 2e-6);
      }
    }
  }
}

TEST(GroupedSoftmax, GradientIsThatOfDifferences) {
  for (const double hidden : {0.0, 0.3}) {
    const Problem p = problem(2, 23, 0.25, hidden, 77);
    Rng rng(5);
    std::vector<double> d_weights(p.scores.size());
    for (double& d : d_weights) d = rng.normal();
    std::vector<double> got(p.scores.size(), std::nan(""));
    grouped_softmax_backward(p.shape, p.scores.data(), d_weights.data(), got.data());
    const auto loss = [&](const std::vector<double>& scores) {
      const std::vector<double> weights = naive(p.shape, scores);
      return std::inner_product(weights.begin(), weights.end(), d_weights.begin(), 0.0);
    };
    for (size_t i = 0; i < p.scores.size(); ++i) {
      std::vector<double> up = p.scores, down = p.scores;
      up[i] += 1e-5;
      down[i] -= 1e-5;
      EXPECT_NEAR(got[i], (loss(up) - loss(down)) / 2e-5, 1e-8) << i;
    }
  }
}

TEST(GroupedSoftmax, OneGroupFarBelowAnotherIsNotLost) {
  // Ordinary scores of the closed section lie 500 below everything else.
  const std::vector<uint8_t> landmarks = {0, 0, 1, 0};
  const std::vector<float> scores = {-500, -501, 1, 0};
  std::vector<float> weights(4);
  grouped_softmax({1, 4, landmarks.data(), nullptr}, scores.data(), weights.data());
  const float top = std::exp(1.0f) + 1, ratio = 1 / (1 + std::exp(-1.0f));
  EXPECT_NEAR(weights[0], std::exp(1.0f) / top * ratio, 1e-6);
  EXPECT_NEAR(weights[1], std::exp(1.0f) / top * (1 - ratio), 1e-6);
  EXPECT_EQ(weights[2], 0);
  EXPECT_NEAR(weights[3], 1 / top, 1e-6);
}

TEST(GroupedSoftmax, EdgesOfTheDefinition) {
  const std::vector<float> scores = {1, 2, 3};
  std::vector<float> weights(3);
  // The query is a landmark whose block is empty: nothing to weigh.
  const std::vector<uint8_t> only = {1};
  grouped_softmax({1, 1, only.data(), nullptr}, scores.data(), weights.data());
  EXPECT_EQ(weights[0], 0);
  // The first section has no ordinary column: its landmark's mass is lost.
  const std::vector<uint8_t> empty_section = {1, 0, 0};
  grouped_softmax({1, 3, empty_section.data(), nullptr}, scores.data(), weights.data());
  EXPECT_NEAR(weights[1] + weights[2],
              1 - std::exp(1.0) / (std::exp(1.0) + std::exp(2.0) + std::exp(3.0)), 1e-6);
}

TEST(GroupedSoftmax, RefusesBadInput) {
  std::vector<float> rows(4);
  EXPECT_EQ(error_of([&] {
              grouped_softmax<float>({-1, 4}, rows.data(), rows.data());
            }),
            "grouped_softmax: expected rows and columns >= 0, got -1 x 4");
  EXPECT_EQ(error_of([&] {
              grouped_softmax<float>({1, 4}, rows.data(), rows.data());
            }),
            "grouped_softmax: null rows");
  const std::vector<uint8_t> landmarks(4);
  EXPECT_EQ(error_of([&] {
              grouped_softmax_backward<float>({1, 4, landmarks.data(), nullptr}, rows.data(),
                                              rows.data(), nullptr);
            }),
            "grouped_softmax_backward: null rows");
}

TEST(GoldenGroupedSoftmax, WeightsRowSumsAndGradients) {
  const auto file = testing::GoldenFile::open("39-landmark-attention");
  if (file == nullptr) GTEST_SKIP();
  int cases = 0;
  for (const testing::GoldenCase& golden : file->cases()) {
    if (golden.kind() != "softmax") continue;
    ++cases;
    const auto& extents = golden.shape("in.scores");  // [B, H, T, S]
    const int64_t batches = extents[0], heads = extents[1], rows = extents[2], columns = extents[3];
    const auto landmark_flags = golden.integers("in.is_landmark");  // [B, S]
    const auto hidden_flags = golden.integers("in.hidden");         // [1 or B, 1, T, S]
    const std::vector<uint8_t> landmarks(landmark_flags.begin(), landmark_flags.end());
    const std::vector<uint8_t> hidden(hidden_flags.begin(), hidden_flags.end());
    const bool own_hidden = golden.shape("in.hidden")[0] == batches;
    const auto scores = golden.floats("in.scores"), d_weights = golden.floats("in.grad_probs");
    std::vector<float> weights(scores.size(), std::nanf("")),
        d_scores(scores.size(), std::nanf(""));
    std::vector<float> sums;
    for (int64_t matrix = 0; matrix < batches * heads; ++matrix) {
      const int64_t batch = matrix / heads, at = matrix * rows * columns;
      const GroupedScores shape{rows, columns, landmarks.data() + batch * columns,
                                hidden.data() + (own_hidden ? batch * rows * columns : 0)};
      grouped_softmax(shape, scores.data() + at, weights.data() + at);
      grouped_softmax_backward(shape, scores.data() + at, d_weights.data() + at,
                               d_scores.data() + at);
      for (int64_t r = 0; r < rows; ++r) {
        const float* row = weights.data() + at + r * columns;
        sums.push_back(std::accumulate(row, row + columns, 0.0f));
      }
    }
    const double abs = golden.abs_tolerance(), rel = golden.rel_tolerance();
    testing::expect_close(weights, golden.floats("out.probs"), abs, rel,
                          golden.name() + "/out.probs");
    testing::expect_close(sums, golden.floats("out.row_sum"), abs, rel,
                          golden.name() + "/out.row_sum");
    testing::expect_close(d_scores, golden.floats("grad.scores"), abs, rel,
                          golden.name() + "/grad.scores");
  }
  EXPECT_GT(cases, 0);
}

}  // namespace
}  // namespace mneme
