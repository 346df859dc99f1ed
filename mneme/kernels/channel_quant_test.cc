#include "mneme/kernels/channel_quant.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "mneme/core/rng.h"
#include "mneme/kernels/attention_testing.h"
#include "tests/support/error_of.h"
#include "tests/support/golden.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

TEST(GoldenAlisa, ChannelsOfABlock) {
  const auto file = testing::GoldenFile::open("12-alisa");
  if (!file) GTEST_SKIP() << "12-alisa.safetensors";
  int checked = 0;
  for (const testing::GoldenCase& golden : file->cases()) {
    if (golden.kind() != "quant") continue;
    SCOPED_TRACE(golden.name());
    ++checked;
    const auto& c = golden.config();
    const ChannelQuant quant{c["bits"], c["tokens"], c["channels"], true};
    std::vector<std::byte> block(static_cast<size_t>(quant.bytes()));
    quant.quantize(golden.floats("in.x").data(), block.data());
    std::vector<int64_t> codes, zeros;
    std::vector<float> scales, values(static_cast<size_t>(quant.tokens * quant.channels));
    for (int64_t channel = 0; channel < quant.channels; ++channel) {
      zeros.push_back(quant.zeros(block.data())[channel]);
      scales.push_back(quant.lambdas(block.data())[channel]);
    }
    for (int64_t token = 0; token < quant.tokens; ++token) {
      for (int64_t channel = 0; channel < quant.channels; ++channel)
        codes.push_back(quant.code(block.data(), token, channel));
      quant.dequantize(block.data(), token, values.data() + token * quant.channels);
    }
    EXPECT_EQ(codes, golden.integers("out.q"));
    EXPECT_EQ(zeros, golden.integers("out.zero"));
    testing::expect_close(scales, golden.floats("out.scale"), golden.abs_tolerance(),
                          golden.rel_tolerance(), golden.name() + "/out.scale");
    testing::expect_close(values, golden.floats("out.dequant"), golden.abs_tolerance(),
                          golden.rel_tolerance(), golden.name() + "/out.dequant");
  }
  EXPECT_GT(checked, 0);
}

// Both widths, odd sizes, channels far from zero: a code and its zero err by half a step each; the
// paper's zero moves the channel besides.
TEST(ChannelQuant, ErrsByAStepAtMostAndWithThePapersZeroByItsShiftToo) {
  Rng rng(3);
  for (const int64_t bits : {8, 4, -8, -4}) {
    for (const int64_t channels : {1, 7, 64}) {
      for (const int64_t tokens : {1, 16, 33}) {
        const bool published = bits < 0;
        const ChannelQuant quant{std::abs(bits), tokens, channels, published};
        std::vector<float> x = testing::normals(rng, tokens * channels);
        for (int64_t i = 0; i < std::ssize(x); ++i)
          x[static_cast<size_t>(i)] += static_cast<float>(i % channels * 10);
        std::vector<std::byte> block(static_cast<size_t>(quant.bytes()), std::byte{0xff});
        quant.quantize(x.data(), block.data());
        std::vector<float> back(static_cast<size_t>(channels));
        for (int64_t t = 0; t < tokens; ++t) {
          quant.dequantize(block.data(), t, back.data());
          for (int64_t c = 0; c < channels; ++c) {
            const float was = x[static_cast<size_t>(t * channels + c)];
            const float step = tokens == 1 ? 0 : std::abs(quant.lambdas(block.data())[c]);
            float low = was;
            for (int64_t i = 0; i < tokens; ++i)
              low = std::min(low, x[static_cast<size_t>(i * channels + c)]);
            const double levels = std::pow(2, std::abs(bits)) - 1;
            const double shift = published && tokens > 1 ? std::abs(low) / levels : 0;
            EXPECT_NEAR(back[static_cast<size_t>(c)], was,
                        step + shift + 1e-5 * std::abs(was) + 1e-6);
          }
        }
      }
    }
  }
}

TEST(ChannelQuant, ChannelsOfOneValueStayThatValue) {
  const ChannelQuant quant{8, 2, 3};
  // Constant; the same up to a rounding; a range that is smaller than every normal float.
  const float x[] = {-7, 1e6f, 0, -7, std::nextafter(1e6f, 2e6f), 1e-44f};
  std::vector<std::byte> block(static_cast<size_t>(quant.bytes()));
  quant.quantize(x, block.data());
  float back[3];
  quant.dequantize(block.data(), 1, back);
  EXPECT_EQ(back[0], -7);
  EXPECT_NEAR(back[1], 1e6f, 0.1f);
  EXPECT_NEAR(back[2], 0, 2e-44f);
  EXPECT_EQ(quant.code(block.data(), 0, 0), 1);
}

TEST(ChannelQuant, RefusesBadInput) {
  const auto refusal = [](ChannelQuant quant) { return error_of([&] { quant.validate(); }); };
  EXPECT_THAT(refusal({2, 16, 8}), HasSubstr("bits must be 8 or 4, got 2"));
  EXPECT_THAT(refusal({8, 0, 8}), HasSubstr("got 0 and 8"));
  const ChannelQuant quant{8, 1, 2};
  std::vector<std::byte> block(static_cast<size_t>(quant.bytes()));
  const float bad[] = {1, std::nanf("")};
  EXPECT_THAT(error_of([&] { quant.quantize(bad, block.data()); }), HasSubstr("not finite"));
}

}  // namespace
}  // namespace mneme
