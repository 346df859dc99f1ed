// Grouped softmax of raw scores, forward and backward: the attention that landmark tokens are
// trained with (papers/39 section 3.1; Mohtashami & Jaggi 2023, section 3.2). Every landmark closes
// a section of columns; the weight that a query gives to a landmark is shared among the ordinary
// columns of its section.
//
//   section(j) = landmarks before column j;  L = the largest section of a visible column
//   p0  = softmax over the ordinary columns of L and the landmarks of sections < L
//   p_s = softmax over the ordinary columns of section s < L
//   weight(j) = p0(j) in section L,  p0(landmark of s) * p_s(j) in section s < L,  0 at landmarks
//
// Hidden columns take part in nothing; neither does the landmark of section L, which only a query
// that is itself the landmark can see. The mass of a landmark whose section shows no ordinary column
// is lost; a row whose p0 is over nothing is all zeros. Every group subtracts its own maximum, so
// that no group is lost beside another. The fused form over blocks is grouped_attention.h.
// Tests: grouped_softmax_test.cc (naive twin, golden softmax_*).
#pragma once

#include <cstdint>

namespace mneme {

// Scores of one sequence and head: any number of queries against the same columns.
struct GroupedScores {
  int64_t rows = 0;
  int64_t columns = 0;
  const uint8_t* landmarks = nullptr;  // [columns] 1: a landmark
  const uint8_t* hidden = nullptr;     // [rows, columns] 1: not seen; null: everything is seen
};

// scores, weights [rows, columns], may alias. T is float or double; sums are of T. A visible score
// must not be NaN. Throws Error on sizes and null rows.
template <typename T>
void grouped_softmax(const GroupedScores& shape, const T* scores, T* weights);

// d_scores [rows, columns] from d_weights of grouped_softmax(scores); may alias d_weights. In every
// group d = p * (g - sum of p * g), where g of an ordinary column of a closed section is its
// d_weight * p0(landmark), and g of a landmark the sum of d_weight * p_s over its section.
template <typename T>
void grouped_softmax_backward(const GroupedScores& shape, const T* scores, const T* d_weights,
                              T* d_scores);

}  // namespace mneme
