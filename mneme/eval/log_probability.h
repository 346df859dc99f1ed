// Log-probabilities from rows of logits, in float64. Every evaluation scores tokens with these.
// Tests: log_probability_test.cc, each against sums written out in long double.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "mneme/cache/memory.h"

namespace mneme {

// Makes an empty memory of the kind that is evaluated.
using MemoryMaker = std::function<std::unique_ptr<SequenceMemory>()>;

// ln p(token) under softmax(logits), [vocabulary]. Throws Error on a token outside the vocabulary
// and on logits whose sum is not a finite number.
double log_probability(std::span<const float> logits, int32_t token);

// KL(p || q) in nats, p = softmax(p_logits), q = softmax(q_logits), both [vocabulary]; never below
// zero. Throws Error on rows of different length and on logits that are not finite numbers.
double kl_divergence_of(std::span<const float> p_logits, std::span<const float> q_logits);

}  // namespace mneme
