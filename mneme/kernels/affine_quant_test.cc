#include "mneme/kernels/affine_quant.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "mneme/core/error.h"
#include "mneme/core/half.h"
#include "mneme/core/rng.h"
#include "tests/support/golden.h"

namespace mneme {
namespace {

using testing::GoldenCase;
using testing::GoldenFile;

struct Quantised {
  std::vector<uint32_t> words;
  std::vector<float> scales, biases;
};

Quantised quantise(const std::vector<float>& x, int64_t dim, int bits, int64_t group) {
  const auto rows = static_cast<int64_t>(x.size()) / dim;
  Quantised out;
  out.words.resize(x.size() * bits / 32);
  out.scales.resize(x.size() / group);
  out.biases.resize(x.size() / group);
  for (int64_t r = 0; r < rows; ++r) {
    affine_quantize_row(
        x.data() + r * dim, dim, bits, group, out.words.data() + r * dim * bits / 32,
        out.scales.data() + r * (dim / group), out.biases.data() + r * (dim / group));
  }
  return out;
}

float round_to(const std::string& dtype, float x) {
  if (dtype == "f16") return f16_to_float(float_to_f16(x));
  if (dtype == "bf16") return bf16_to_float(float_to_bf16(x));
  return x;
}

// scale * code + bias, every operation rounded to `dtype`.
std::vector<float> dequantise(const Quantised& q, int bits, int64_t group,
                              const std::string& dtype) {
  const auto n = static_cast<int64_t>(q.scales.size()) * group;
  std::vector<uint8_t> codes(n);
  affine_unpack(q.words.data(), n, bits, codes.data());
  std::vector<float> x(n);
  for (int64_t i = 0; i < n; ++i) {
    const float scale = round_to(dtype, q.scales[i / group]),
                bias = round_to(dtype, q.biases[i / group]);
    x[i] = round_to(dtype, round_to(dtype, scale * static_cast<float>(codes[i])) + bias);
  }
  return x;
}

double relative_rms_error(int bits, int64_t group) {
  Rng rng(7);
  std::vector<float> x(64 * 4096);
  for (float& value : x) value = static_cast<float>(rng.normal());
  const std::vector<float> y = dequantise(quantise(x, 64, bits, group), bits, group, "f32");
  double error = 0, power = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    error += (double{x[i]} - y[i]) * (double{x[i]} - y[i]);
    power += double{x[i]} * x[i];
  }
  return std::sqrt(error / power);
}

TEST(GoldenAffineQuant, WordsScalesBiasesAndValuesOfEveryCase) {
  const auto file = GoldenFile::open("05-agent-memory-q4");
  if (!file) GTEST_SKIP();
  int seen = 0;
  for (const GoldenCase& golden : file->cases()) {
    if (!golden.has("in.x") || !golden.has("out.words") || !golden.has("out.dequant")) continue;
    SCOPED_TRACE(golden.name());
    ++seen;
    const int bits = golden.config()["bits"];
    const int64_t group = golden.config()["group_size"];
    const std::string dtype = golden.config()["dtype"];
    const Quantised got = quantise(golden.floats("in.x"), golden.shape("in.x").back(), bits, group);
    EXPECT_EQ(std::vector<int64_t>(got.words.begin(), got.words.end()),
              golden.integers("out.words"));
    const std::vector<float> scales = golden.floats("out.scales"),
                             biases = golden.floats("out.biases");
    ASSERT_EQ(got.scales.size(), scales.size());
    for (size_t g = 0; g < scales.size(); ++g) {
      EXPECT_EQ(round_to(dtype, got.scales[g]), scales[g]) << "group " << g;
      EXPECT_EQ(round_to(dtype, got.biases[g]), biases[g]) << "group " << g;
    }
    testing::expect_close(dequantise(got, bits, group, dtype), golden.floats("out.dequant"),
                          golden.abs_tolerance(), golden.rel_tolerance(),
                          golden.name() + " out.dequant");
  }
  EXPECT_GT(seen, 0);
}

TEST(GoldenAffineQuant, PayloadBytesOfModelGeometries) {
  const auto file = GoldenFile::open("05-agent-memory-q4");
  if (!file) GTEST_SKIP();
  int seen = 0;
  for (const GoldenCase& golden : file->cases()) {
    if (!golden.has("in.geometry") || !golden.has("out.q_bytes")) continue;
    ++seen;
    const std::vector<int64_t> geometry = golden.integers("in.geometry"),
                               want = golden.integers("out.q_bytes");
    for (size_t i = 0; i < want.size(); ++i) {
      const int64_t* g = geometry.data() + 7 * i;  // layers, KV heads, dk, dv, tokens, group, bits
      const int bits = static_cast<int>(g[6]);
      EXPECT_EQ(g[0] * g[1] * g[4] *
                    (affine_row_bytes(g[2], bits, g[5]) + affine_row_bytes(g[3], bits, g[5])),
                want[i])
          << "row " << i;
    }
  }
  EXPECT_GT(seen, 0);
}

TEST(AffineQuant, ConstantZeroAndTinyGroupsAreExact) {
  for (const int bits : {2, 4, 8}) {
    for (const float c : {0.0f, 2.5f, -3.25f, 1e-9f, 1e5f}) {
      std::vector<float> x(64, c);
      const std::vector<float> y = dequantise(quantise(x, 64, bits, 64), bits, 64, "f32");
      for (const float value : y) EXPECT_NEAR(value, c, 1e-7f) << bits << " bits of " << c;
    }
  }
}

TEST(AffineQuant, LargerEdgeIsExactAndZeroLiesOnTheGrid) {
  Rng rng(3);
  for (const int bits : {2, 4, 8}) {
    for (int trial = 0; trial < 50; ++trial) {
      std::vector<float> x(32);
      for (float& value : x) value = static_cast<float>(rng.normal()) + 0.5f;
      x[5] = 0;
      const Quantised q = quantise(x, 32, bits, 32);
      const std::vector<float> y = dequantise(q, bits, 32, "f32");
      size_t edge = 0;
      for (size_t i = 0; i < x.size(); ++i) {
        if (std::abs(x[i]) > std::abs(x[edge])) edge = i;
        EXPECT_LE(std::abs(x[i] - y[i]), 1.001f * std::abs(q.scales[0])) << "at most one full step";
      }
      EXPECT_EQ(y[edge], x[edge]);
      EXPECT_NEAR(y[5], 0.0f, 2e-6f);
    }
  }
}

TEST(AffineQuant, RelativeErrorOnNormalRows) {
  EXPECT_NEAR(relative_rms_error(4, 64), 0.0906, 0.002);
  EXPECT_NEAR(relative_rms_error(8, 64), 0.0053, 0.0002);
}

TEST(AffineQuant, PackAndUnpackAreInverse) {
  Rng rng(1);
  for (const int bits : {2, 4, 8}) {
    std::vector<uint8_t> codes(96), back(96);
    for (uint8_t& code : codes) code = static_cast<uint8_t>(rng.below(1 << bits));
    std::vector<uint32_t> words(96 * bits / 32);
    affine_pack(codes.data(), 96, bits, words.data());
    affine_unpack(words.data(), 96, bits, back.data());
    EXPECT_EQ(codes, back);
    EXPECT_EQ(words[0] & ((1u << bits) - 1), codes[0]) << "element 0 sits in the low bits";
  }
}

template <typename F>
std::string error_of(F&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(AffineQuant, RefusesWhatDoesNotFit) {
  std::vector<float> x(96, 1.0f);
  std::vector<uint32_t> words(96);
  std::vector<float> scales(96), biases(96);
  const auto message = [&](int64_t dim, int bits, int64_t group) {
    return error_of([&] {
      affine_quantize_row(x.data(), dim, bits, group, words.data(), scales.data(), biases.data());
    });
  };
  EXPECT_NE(message(96, 3, 32).find("got 3"), std::string::npos);
  EXPECT_NE(message(96, 4, 64).find("64, got 96"), std::string::npos);
  EXPECT_NE(message(96, 4, 12).find("got 12"), std::string::npos);
  x[70] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_NE(message(96, 4, 32).find("NaN"), std::string::npos);
  x[70] = -std::numeric_limits<float>::infinity();
  EXPECT_NE(message(96, 8, 32).find("finite"), std::string::npos);
  x[70] = -3e38f;
  x[71] = 3e38f;
  EXPECT_NE(message(96, 8, 32).find("finite"), std::string::npos) << "the range itself overflows";
}

}  // namespace
}  // namespace mneme
