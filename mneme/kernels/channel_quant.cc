#include "mneme/kernels/channel_quant.h"

#include <algorithm>
#include <cmath>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/kernels/row_convert.h"

namespace mneme {
namespace {

constexpr double kLargestZero = 1 << 23;

}  // namespace

void ChannelQuant::validate() const {
  MNEME_CHECK(bits == 8 || bits == 4, "channel quantisation: bits must be 8 or 4, got ", bits);
  MNEME_CHECK(tokens > 0 && tokens <= 1 << 20 && channels > 0 && channels <= 1 << 24,
              "channel quantisation: tokens and channels must be positive, got ", tokens, " and ",
              channels);
}

int64_t ChannelQuant::lambda_offset() const {
  return checked_round_up(tokens * token_bytes(), 4, "channel quantisation");
}

int64_t ChannelQuant::bytes() const { return lambda_offset() + channels * 8; }

void ChannelQuant::quantize(const float* x, std::byte* block) const {
  MNEME_CHECK(storable(DType::kF32, x, tokens * channels),
              "channel quantisation: a number is not finite");
  const double top = bits == 8 ? 255 : 15, levels = published_zero ? top + 1 : top;
  auto* const codes = reinterpret_cast<uint8_t*>(block);
  auto* const lambdas = reinterpret_cast<float*>(block + lambda_offset());
  auto* const zeros = reinterpret_cast<int32_t*>(block + lambda_offset()) + channels;
  std::fill_n(codes, lambda_offset(), uint8_t{0});
  for (int64_t c = 0; c < channels; ++c) {
    float low = x[c], high = x[c];
    for (int64_t t = 1; t < tokens; ++t) {
      low = std::min(low, x[t * channels + c]);
      high = std::max(high, x[t * channels + c]);
    }
    const double range = double{high} - double{low};
    double zero = range > 0 ? std::nearbyint(-levels * double{low} / range) : 0;
    const bool one_value = range == 0 || std::abs(zero) > kLargestZero;
    if (one_value) zero = 0;
    const auto lambda =
        static_cast<float>(one_value ? (double{low} + double{high}) / 2 : range / top);
    // A range among the smallest floats may have no step at all.
    const bool flat = one_value || lambda == 0;
    for (int64_t t = 0; t < tokens; ++t) {
      const double code =
          flat ? 1
               : std::clamp(std::nearbyint(double{x[t * channels + c]} / (range / top) + zero), 0.0,
                            top);
      const auto bits_of = static_cast<uint8_t>(code);
      uint8_t& to = codes[t * token_bytes() + (bits == 8 ? c : c / 2)];
      to = static_cast<uint8_t>(bits == 8 ? bits_of : to | bits_of << (c % 2 * 4));
    }
    lambdas[c] = lambda;
    zeros[c] = static_cast<int32_t>(zero);
  }
}

int32_t ChannelQuant::code(const std::byte* block, int64_t token, int64_t channel) const {
  const auto* const codes = reinterpret_cast<const uint8_t*>(block) + token * token_bytes();
  return bits == 8 ? codes[channel] : codes[channel / 2] >> (channel % 2 * 4) & 15;
}

const float* ChannelQuant::lambdas(const std::byte* block) const {
  return reinterpret_cast<const float*>(block + lambda_offset());
}

const int32_t* ChannelQuant::zeros(const std::byte* block) const {
  return reinterpret_cast<const int32_t*>(block + lambda_offset()) + channels;
}

void ChannelQuant::dequantize(const std::byte* block, int64_t token, float* x) const {
  const auto* const codes = reinterpret_cast<const uint8_t*>(block) + token * token_bytes();
  const float* const step = lambdas(block);
  const int32_t* const zero = zeros(block);
  if (bits == 8) {
    for (int64_t c = 0; c < channels; ++c) x[c] = step[c] * static_cast<float>(codes[c] - zero[c]);
    return;
  }
  for (int64_t c = 0; c < channels; ++c)
    x[c] = step[c] * static_cast<float>((codes[c / 2] >> (c % 2 * 4) & 15) - zero[c]);
}

}  // namespace mneme
