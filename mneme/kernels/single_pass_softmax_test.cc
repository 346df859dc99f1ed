#include "mneme/kernels/single_pass_softmax.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "mneme/core/error.h"
#include "mneme/kernels/targets_testing.h"
#include "mneme/kernels/weight_testing.h"

namespace mneme {
namespace {

constexpr float kMasked = -std::numeric_limits<float>::infinity();
constexpr int64_t kSizes[] = {1, 2, 7, 15, 16, 17, 31, 32, 33, 63, 100, 1000, 5000};

// The rule of papers/33 section 3.4, literally, in `Real` arithmetic.
template <typename Real>
struct Naive {
  Real sum = 0, bias = -std::numeric_limits<Real>::infinity();

  void take(Real x) {
    if (std::isinf(x) && x < 0) return;
    if (x > bias) {
      sum = sum * std::exp(bias - x) + 1;
      bias = x;
    } else {
      sum += std::exp(x - bias);
    }
  }
};

template <typename Real>
Naive<Real> naive(const std::vector<float>& scores) {
  Naive<Real> state;
  for (const float x : scores) state.take(static_cast<Real>(x));
  return state;
}

// Scores of a wide range, a third of them masked.
std::vector<float> scores_of(int64_t n, uint64_t seed, double deviation = 5) {
  std::vector<float> scores = random_floats(n, seed, deviation);
  for (size_t i = 1; i < scores.size(); i += 3) scores[i] = kMasked;
  return scores;
}

double relative(double got, double want) { return std::abs(got - want) / std::abs(want); }

// Twice what the plain rule errs by in float32, and never less than a few units in the last place.
TEST(SinglePassSoftmax, RowsEqualFloat64) {
  for_each_target([] {
    for (const int64_t n : kSizes) {
      for (const double deviation : {0.1, 5.0, 60.0}) {
        const std::vector<float> scores = scores_of(n, 1 + n, deviation);
        const auto want = naive<double>(scores);
        const auto plain = naive<float>(scores);
        const double limit = 2 * relative(plain.sum, want.sum) + 4 * 0x1p-23;
        const SoftmaxState state = single_pass_softmax_row(scores.data(), n);
        EXPECT_EQ(state.bias, want.bias);
        EXPECT_LE(relative(state.sum, want.sum), limit) << n << " " << deviation;
        std::vector<float> weights(scores.size());
        single_pass_softmax_weights(state, scores.data(), n, weights.data());
        for (size_t i = 0; i < scores.size(); ++i) {
          const double below = static_cast<double>(scores[i]) - want.bias;
          const double exact = std::isinf(below) ? 0 : std::exp(below) / want.sum;
          // The rounded difference costs |below| half units.
          ASSERT_NEAR(weights[i], exact,
                      exact * (limit + (4 - (std::isinf(below) ? 0 : below)) * 0x1p-23) + 1e-38);
        }
      }
    }
  });
}

TEST(SinglePassSoftmax, StepsEqualFloat64AfterEveryScore) {
  for_each_target([] {
    for (const int64_t rows : {1, 3, 16, 17, 40}) {
      std::vector<Naive<double>> want(static_cast<size_t>(rows));
      std::vector<Naive<float>> plain(static_cast<size_t>(rows));
      std::vector<float> sums(static_cast<size_t>(rows), 0.0f), biases(sums.size(), kMasked);
      std::vector<float> keep(sums.size()), gain(sums.size()), values(sums.size(), 0.0f);
      std::vector<double> value_sums(sums.size(), 0.0);
      for (uint64_t step = 0; step < 100; ++step) {
        const std::vector<float> scores = scores_of(rows, 100 + step);
        single_pass_softmax_step(scores.data(), rows, sums.data(), biases.data(), keep.data(),
                                 gain.data());
        for (size_t r = 0; r < sums.size(); ++r) {
          want[r].take(scores[r]);
          plain[r].take(scores[r]);
          EXPECT_EQ(biases[r], want[r].bias);
          const double limit = 2 * relative(plain[r].sum, want[r].sum) + 4 * 0x1p-23;
          if (want[r].sum > 0) {
            EXPECT_LE(relative(sums[r], want[r].sum), limit);
          }
          // A value of 1 in every row: the value sum is the sum itself.
          values[r] = values[r] * keep[r] + gain[r];
          EXPECT_NEAR(values[r], sums[r], sums[r] * 100 * 0x1p-23);
        }
      }
    }
  });
}

TEST(SinglePassSoftmax, ARowAmongOthersHasTheSameBits) {
  for_each_target([] {
    constexpr int64_t kRows = 37;
    std::vector<float> sums(kRows, 0.0f), biases(kRows, kMasked);
    std::vector<float> alone_sums = sums, alone_biases = biases;
    for (uint64_t step = 0; step < 20; ++step) {
      const std::vector<float> scores = scores_of(kRows, step);
      single_pass_softmax_step(scores.data(), kRows, sums.data(), biases.data());
      for (int64_t r = 0; r < kRows; ++r)
        single_pass_softmax_step(scores.data() + r, 1, alone_sums.data() + r,
                                 alone_biases.data() + r);
    }
    EXPECT_EQ(sums, alone_sums);
    EXPECT_EQ(biases, alone_biases);
  });
}

TEST(SinglePassSoftmax, MergedPartsEqualTheWhole) {
  for_each_target([] {
    const std::vector<float> scores = scores_of(1000, 9, 20);
    const SoftmaxState whole = single_pass_softmax_row(scores.data(), 1000);
    for (const int64_t cut : {0, 1, 16, 333, 999, 1000}) {
      const SoftmaxState a = single_pass_softmax_row(scores.data(), cut);
      const SoftmaxState b = single_pass_softmax_row(scores.data() + cut, 1000 - cut);
      for (const SoftmaxState& merged :
           {single_pass_softmax_merge(a, b), single_pass_softmax_merge(b, a)}) {
        EXPECT_EQ(merged.bias, whole.bias);
        EXPECT_LE(relative(merged.sum, whole.sum), 8 * 0x1p-23) << cut;
      }
    }
  });
}

TEST(SinglePassSoftmax, MaskedRowsAndWhatIsNoNumber) {
  for_each_target([] {
    for (const int64_t n : {0, 1, 20, 40}) {
      std::vector<float> scores(static_cast<size_t>(n), kMasked), weights(scores.size(), 7.0f);
      const SoftmaxState none = single_pass_softmax_row(scores.data(), n);
      EXPECT_EQ(none.sum, 0);
      EXPECT_EQ(none.bias, kMasked);
      EXPECT_EQ(single_pass_softmax_merge(none, none).sum, 0);
      single_pass_softmax_weights(none, scores.data(), n, weights.data());
      for (const float weight : weights) EXPECT_EQ(weight, 0);
    }
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -kMasked}) {
      for (const size_t at : {0u, 3u, 38u}) {
        std::vector<float> scores(40, 1.0f), weights(40);
        scores[at] = bad;
        const SoftmaxState state = single_pass_softmax_row(scores.data(), 40);
        EXPECT_TRUE(std::isnan(state.sum));
        single_pass_softmax_weights(state, scores.data(), 40, weights.data());
        for (const float weight : weights) EXPECT_TRUE(std::isnan(weight));
      }
    }
    std::vector<float> scores(40, 1e30f), weights(40);
    scores[5] = -1e30f;
    single_pass_softmax_weights(single_pass_softmax_row(scores.data(), 40), scores.data(), 40,
                                weights.data());
    for (size_t i = 0; i < 40; ++i) EXPECT_NEAR(weights[i], i == 5 ? 0 : 1.0 / 39, 1e-8);
  });
}

TEST(SinglePassSoftmax, RejectsBadInput) {
  const auto message = [](const auto& call) -> std::string {
    try {
      call();
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  using ::testing::HasSubstr;
  EXPECT_THAT(message([] { single_pass_softmax_row(nullptr, -1); }), HasSubstr("got -1"));
  EXPECT_THAT(message([] { single_pass_softmax_step(nullptr, -2, nullptr, nullptr); }),
              HasSubstr("single_pass_softmax_step: n must not be negative, got -2"));
  EXPECT_THAT(message([] { single_pass_softmax_weights({}, nullptr, -3, nullptr); }),
              HasSubstr("got -3"));
}

}  // namespace
}  // namespace mneme
