#include "mneme/cache/policy/simple_scores.h"

#include <vector>

#include "mneme/kernels/row_page.h"

namespace mneme {

void Knorm::score(const Candidates& candidates, std::span<float> scores) {
  const int64_t dim = shape().k_dim;
  std::vector<float> k(static_cast<size_t>(dim)), v(static_cast<size_t>(shape().v_dim));
  for (int64_t row = 0; row < std::ssize(scores); ++row) {
    candidates.rows.read(row, k.data(), v.data());
    double squares = 0;
    for (const float x : k) squares += double{x} * x;
    scores[static_cast<size_t>(row)] = static_cast<float>(-squares);
  }
}

void RandomRows::score(const Candidates& candidates, std::span<float> scores) {
  // A row's draw depends on what it is, not on how often rows were judged.
  const auto where =
      static_cast<int64_t>(shape().head_index(candidates.step.layer.layer, candidates.head));
  for (int64_t row = 0; row < std::ssize(scores); ++row) {
    Rng rng(static_cast<uint64_t>((seed_ * 1'000'003 + where) * (int64_t{1} << 32) +
                                  candidates.rows.position(row)));
    scores[static_cast<size_t>(row)] = static_cast<float>(rng.uniform());
  }
}

}  // namespace mneme
