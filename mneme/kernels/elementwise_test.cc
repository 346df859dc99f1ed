#include "mneme/kernels/elementwise.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "mneme/core/error.h"
#include "mneme/kernels/targets_testing.h"
#include "mneme/kernels/weight_testing.h"

namespace mneme {
namespace {

constexpr int64_t kSizes[] = {1, 2, 7, 15, 16, 17, 63, 100, 576, 1000};

// |got - exact| <= ulps float32 spacings at the exact value, or 1e-38 near zero.
void expect_ulps(float got, double exact, double ulps, int64_t at) {
  const double spacing =
      std::max(std::exp2(std::floor(std::log2(std::abs(exact) + 1e-300)) - 23), 1e-38);
  ASSERT_LE(std::abs(static_cast<double>(got) - exact), ulps * spacing) << exact << " at " << at;
}

TEST(Elementwise, RmsNormEqualsFloat64) {
  for_each_target([] {
    for (const int64_t dim : kSizes) {
      const std::vector<float> x = random_floats(3 * dim, 1), weight = random_floats(dim, 2);
      std::vector<float> y(x.size()), in_place = x;
      rms_norm(x.data(), weight.data(), 1e-5f, 3, dim, y.data());
      rms_norm(in_place.data(), weight.data(), 1e-5f, 3, dim, in_place.data());
      EXPECT_EQ(y, in_place);
      for (int64_t r = 0; r < 3; ++r) {
        double sum = 0;
        for (int64_t i = 0; i < dim; ++i) {
          sum += std::pow(static_cast<double>(x[static_cast<size_t>(r * dim + i)]), 2);
        }
        const double factor =
            1 / std::sqrt(sum / static_cast<double>(dim) + static_cast<double>(1e-5f));
        for (int64_t i = 0; i < dim; ++i) {
          const auto at = static_cast<size_t>(r * dim + i);
          const double exact = static_cast<double>(x[at]) * factor *
                               static_cast<double>(weight[static_cast<size_t>(i)]);
          expect_ulps(y[at], exact, 3, i);  // three roundings
        }
        std::vector<float> alone(static_cast<size_t>(dim));
        rms_norm(x.data() + r * dim, weight.data(), 1e-5f, 1, dim, alone.data());
        EXPECT_EQ(std::memcmp(alone.data(), y.data() + r * dim, alone.size() * sizeof(float)), 0);
      }
    }
  });
}

TEST(Elementwise, AddAndScaleAreExact) {
  for_each_target([] {
    for (const int64_t n : kSizes) {
      const std::vector<float> a = random_floats(n, 3), b = random_floats(n, 4);
      std::vector<float> x = a;
      add(x.data(), b.data(), n);
      for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(x[i], a[i] + b[i]);
      scale(x.data(), 0.3f, n);
      for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(x[i], (a[i] + b[i]) * 0.3f);
    }
  });
}

TEST(Elementwise, SiluMulEqualsFloat64) {
  for_each_target([] {
    for (const int64_t n : kSizes) {
      const std::vector<float> x = random_floats(n, 5, 8), up = random_floats(n, 6);
      std::vector<float> y = x;
      silu_mul(y.data(), up.data(), n);
      for (int64_t i = 0; i < n; ++i) {
        const auto at = static_cast<size_t>(i);
        const double v = x[at];
        expect_ulps(y[at], v / (1 + std::exp(-v)) * static_cast<double>(up[at]), 4, i);
      }
    }
  });
}

// The exponent 2 sqrt(2/pi) (x + 0.044715 x^3) is rounded a few times, so the relative error grows
// with it: a unit in its last place is |exponent| 2^-24 of the result.
TEST(Elementwise, GeluTanhMulEqualsFloat64) {
  for_each_target([] {
    for (const int64_t n : kSizes) {
      const std::vector<float> x = random_floats(n, 7, 2), up = random_floats(n, 8);
      std::vector<float> y = x;
      gelu_tanh_mul(y.data(), up.data(), n);
      for (int64_t i = 0; i < n; ++i) {
        const auto at = static_cast<size_t>(i);
        const double v = x[at];
        const double exponent = 2 * std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v);
        const double exact = v / (1 + std::exp(-exponent)) * static_cast<double>(up[at]);
        expect_ulps(y[at], exact, 4 + 3 * std::abs(exponent), i);
      }
    }
  });
}

TEST(Elementwise, ActivationsSaturateWithoutNan) {
  for_each_target([] {
    const std::vector<float> x = {-1e4f, -200, -88, 0, 88, 200, 1e4f};
    const std::vector<float> ones(x.size(), 1.0f);
    std::vector<float> silu = x, gelu = x, cap = x;
    silu_mul(silu.data(), ones.data(), static_cast<int64_t>(x.size()));
    gelu_tanh_mul(gelu.data(), ones.data(), static_cast<int64_t>(x.size()));
    softcap(cap.data(), 30, static_cast<int64_t>(x.size()));
    for (size_t i = 0; i < x.size(); ++i) {
      EXPECT_NEAR(silu[i], std::max(x[i], 0.0f), 1e-30f);
      EXPECT_NEAR(gelu[i], std::max(x[i], 0.0f), 1e-30f);
      EXPECT_NEAR(cap[i], 30 * std::tanh(x[i] / 30), 1e-5f);
    }
  });
}

TEST(Elementwise, SoftcapEqualsFloat64) {
  for_each_target([] {
    for (const int64_t n : kSizes) {
      const std::vector<float> x = random_floats(n, 9, 40);
      std::vector<float> y = x;
      softcap(y.data(), 50, n);
      for (int64_t i = 0; i < n; ++i) {
        const double exact = 50 * std::tanh(static_cast<double>(x[static_cast<size_t>(i)]) / 50);
        expect_ulps(y[static_cast<size_t>(i)], exact, 6, i);
      }
    }
  });
}

// exp(x - maximum) has 1 ulp of its own and the rounding of the difference: |x - maximum| 2^-24.
TEST(Elementwise, SoftmaxAndLogSumExpEqualFloat64) {
  for_each_target([] {
    for (const int64_t n : {1, 2, 7, 15, 16, 17, 63, 100, 576, 1000, 5000}) {
      const std::vector<float> x = random_floats(n, 10, 5);
      const double maximum = *std::max_element(x.begin(), x.end());
      double sum = 0;
      for (const float v : x) sum += std::exp(static_cast<double>(v) - maximum);
      EXPECT_NEAR(log_sum_exp(x.data(), n), maximum + std::log(sum), 2e-7) << n;
      std::vector<float> y = x;
      softmax(y.data(), n);
      for (int64_t i = 0; i < n; ++i) {
        const double below = static_cast<double>(x[static_cast<size_t>(i)]) - maximum;
        expect_ulps(y[static_cast<size_t>(i)], std::exp(below) / sum, 4 - below, i);
      }
    }
  });
}

TEST(Elementwise, SoftmaxGivesMaskedEntriesZero) {
  for_each_target([] {
    const float masked = -std::numeric_limits<float>::infinity();
    std::vector<float> x(40, masked);
    x[33] = 1e30f;
    x[7] = 1e30f;
    EXPECT_NEAR(log_sum_exp(x.data(), 40), 1e30f, 1e23);
    softmax(x.data(), 40);
    for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(x[i], i == 33 || i == 7 ? 0.5f : 0.0f);
  });
}

TEST(Elementwise, RopeEqualsFloat64) {
  for_each_target([] {
    for (const RopePairs pairs : {RopePairs::kHalves, RopePairs::kInterleaved}) {
      for (const int64_t dim : {2, 6, 34, 64, 100, 256}) {
        const int64_t tokens = 3, heads = 2, half = dim / 2, first = 5000;
        std::vector<float> factors(static_cast<size_t>(half), 1.5f);
        std::vector<float> cosines(static_cast<size_t>(tokens * half)), sines = cosines;
        rope_table(first, tokens, dim, 10000, 8, factors.data(), cosines.data(), sines.data());
        const std::vector<float> x = random_floats(tokens * heads * dim, 11);
        std::vector<float> y = x;
        rope(y.data(), tokens, heads, dim, pairs, cosines.data(), sines.data());
        for (int64_t t = 0; t < tokens; ++t) {
          for (int64_t h = 0; h < heads; ++h) {
            for (int64_t i = 0; i < half; ++i) {
              const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(dim);
              const double angle =
                  static_cast<double>(first + t) * std::pow(10000.0, exponent) / 8 / 1.5;
              const bool halves = pairs == RopePairs::kHalves;
              const auto row = static_cast<size_t>((t * heads + h) * dim);
              const size_t a = row + static_cast<size_t>(halves ? i : 2 * i);
              const size_t b = row + static_cast<size_t>(halves ? half + i : 2 * i + 1);
              const double va = x[a], vb = x[b];
              const double tolerance = 3e-7 * (std::abs(va) + std::abs(vb));
              ASSERT_NEAR(y[a], va * std::cos(angle) - vb * std::sin(angle), tolerance);
              ASSERT_NEAR(y[b], va * std::sin(angle) + vb * std::cos(angle), tolerance);
            }
          }
        }
      }
    }
  });
}

TEST(Elementwise, RejectsBadInput) {
  std::vector<float> x(8);
  const auto message = [](const auto& call) -> std::string {
    try {
      call();
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  float* p = x.data();
  using testing::HasSubstr;
  EXPECT_THAT(message([&] { add(p, p, -1); }), HasSubstr("add: n must not be negative, got -1"));
  EXPECT_THAT(message([&] { softmax(p, 0); }), HasSubstr("softmax: n must be positive, got 0"));
  EXPECT_THAT(message([&] { log_sum_exp(p, 0); }), HasSubstr("n must be positive, got 0"));
  EXPECT_THAT(message([&] { softcap(p, 0, 8); }), HasSubstr("cap must be positive, got 0"));
  EXPECT_THAT(message([&] { rms_norm(p, p, 0, 1, 0, p); }), HasSubstr("dim > 0, got 1 x 0"));
  EXPECT_THAT(message([&] { rope(p, 1, 1, 3, RopePairs::kHalves, p, p); }),
              HasSubstr("dim must be positive and even, got 3"));
  EXPECT_THAT(message([&] { rope_table(0, 1, 8, 0, 1, nullptr, p, p); }),
              HasSubstr("base and scale must be positive, got 0, 1"));
}

}  // namespace
}  // namespace mneme
