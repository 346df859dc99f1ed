// Keys and values of a run of tokens as whole numbers of 8 or 4 bits, one range for each channel over
// the tokens of the run: how ALISA stores tokens outside the fast memory. (papers/12 section 3.4.)
//
//   lambda = (max - min) / (2^b - 1)         zero = round(-min / lambda)
//   code = clamp(round(x / lambda + zero), 0, 2^b - 1)         x' = lambda (code - zero)
//
// The paper prints zero = round(-2^b min / (max - min)), one level too many: that moves a whole channel
// by min / (2^b - 1), which is |min| / (max - min) steps and much for channels far from zero, as some
// of every model's keys are. Both are here; the memories use the exact one. Rounding is half to even. A channel whose spread is nothing beside its size (constant, or
// |zero| above 2^23) is kept as one value: lambda = the middle of its range, zero = 0, code = 1.
//
// A block: codes [tokens, channels] (two channels a byte where bits = 4, the even one below) | lambda
// [channels] f32 | zero [channels] i32, 4-byte aligned. Tests: channel_quant_test.cc.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mneme {

struct ChannelQuant {
  int64_t bits = 8;  // 8 or 4
  int64_t tokens = 0;
  int64_t channels = 0;
  bool published_zero = false;  // the paper's zero instead of the exact one

  // Throws Error naming the value that cannot be.
  void validate() const;
  int64_t token_bytes() const { return bits == 8 ? channels : (channels + 1) / 2; }
  int64_t bytes() const;

  // x [tokens, channels] -> block [bytes()]. Throws Error on NaN or infinity, which the range would
  // hide.
  void quantize(const float* x, std::byte* block) const;
  // One token of the block -> x [channels].
  void dequantize(const std::byte* block, int64_t token, float* x) const;

  int32_t code(const std::byte* block, int64_t token, int64_t channel) const;
  const float* lambdas(const std::byte* block) const;  // [channels]
  const int32_t* zeros(const std::byte* block) const;  // [channels]

 private:
  int64_t lambda_offset() const;
};

}  // namespace mneme
