// Picks the next token from logits. The order of the filters is llama.cpp's: repetition penalty,
// temperature 0 means greedy, else top-k, top-p, min-p, temperature, draw. Ties go to the lower id.
// Tests: sampler_test.cc.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "mneme/core/rng.h"

namespace mneme {

struct SamplerOptions {
  double temperature = 0;  // >= 0; 0: greedy
  int64_t top_k = 40;      // >= 0; 0: all
  double top_p = 0.95;     // (0, 1]
  double min_p = 0.05;     // [0, 1]: keeps tokens at least this likely relative to the likeliest
  // > 0; divides positive and multiplies negative logits of recent tokens.
  double repetition_penalty = 1;
  int64_t penalty_window = 64;  // >= 0: how many recent tokens are penalised
  uint64_t seed = 0;

  // Throws Error naming the option, its value and its range.
  void validate() const;
};

class Sampler {
 public:
  explicit Sampler(const SamplerOptions& options);

  // The next token. `logits` [vocabulary], unchanged; `history` are the tokens so far. Throws Error
  // when no logit is a number.
  int32_t sample(std::span<const float> logits, std::span<const int32_t> history);

  const SamplerOptions& options() const { return options_; }

 private:
  void penalise(std::span<const int32_t> history);

  SamplerOptions options_;
  Rng rng_;
  std::vector<float> logits_;                          // penalised copy
  std::vector<std::pair<float, int32_t>> candidates_;  // best first
  std::vector<double> weights_;
  std::vector<int32_t> penalised_;
};

// The index of the largest logit, the lowest one among equals. Throws Error when all are NaN or
// there are none.
int32_t argmax(std::span<const float> logits);

}  // namespace mneme
