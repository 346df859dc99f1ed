// Softmax whose denominator is gathered in one pass over the scores (papers/33 section 3.4): a row
// keeps (sum, bias), bias the largest score so far, sum = sum of exp(score - bias). Exponents are
// never positive, so nothing overflows, and no second pass looks for the maximum. A weight is
// exp(score - bias) / sum, computed when the value it multiplies arrives.
//
// A score of -infinity is masked: it changes no state and has weight 0; a row with nothing else has
// sum 0 and weights 0. A NaN or +infinity makes the row's sum and weights NaN.
// Tests: single_pass_softmax_test.cc (float64 twin, every target), edge_moe_golden_test.cc.
#pragma once

#include <cstdint>
#include <limits>

namespace mneme {

struct SoftmaxState {
  float sum = 0;
  float bias = -std::numeric_limits<float>::infinity();
};

// Takes one score into each of n rows: sums, biases, scores [n]. The order of a row's scores is the
// order of the calls, so its state never depends on how many rows there are or where a stream was
// cut. `keep` and `gain` [n], or null, receive the factors of this step: an accumulator of weighted
// values follows by value_sum = value_sum * keep + value * gain.
void single_pass_softmax_step(const float* scores, int64_t n, float* sums, float* biases,
                              float* keep = nullptr, float* gain = nullptr);

// The state of one whole row of n >= 0 scores, which are read once. A function of the row alone.
SoftmaxState single_pass_softmax_row(const float* scores, int64_t n);

// The state of two parts of a row together. Associative up to rounding.
SoftmaxState single_pass_softmax_merge(SoftmaxState a, SoftmaxState b);

// weights[i] = exp(scores[i] - state.bias) / state.sum over n scores; may alias scores.
void single_pass_softmax_weights(SoftmaxState state, const float* scores, int64_t n,
                                 float* weights);

}  // namespace mneme
