// Rows and weights for the tests of policies.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "mneme/cache/cache_policy.h"

namespace mneme::testing {

// Softmax weights of q [queries, q_heads, dim] over k [kv_heads, rows, dim] in float64, rounded to
// floats: query i of the last `queries` sees the rows before it and itself.
struct WindowWeights {
  WindowWeights(const std::vector<float>& q, const std::vector<float>& k, int64_t queries,
                int64_t q_heads, int64_t kv_heads, int64_t rows, int64_t dim)
      : values(static_cast<size_t>(queries * q_heads * rows)) {
    for (int64_t t = 0; t < queries; ++t) {
      for (int64_t h = 0; h < q_heads; ++h) {
        const int64_t visible = rows - queries + t + 1;
        std::vector<double> scores(static_cast<size_t>(visible));
        for (int64_t j = 0; j < visible; ++j) {
          double dot = 0;
          for (int64_t i = 0; i < dim; ++i) {
            dot += double{q[static_cast<size_t>((t * q_heads + h) * dim + i)]} *
                   k[static_cast<size_t>((h / (q_heads / kv_heads) * rows + j) * dim + i)];
          }
          scores[static_cast<size_t>(j)] = dot / std::sqrt(static_cast<double>(dim));
        }
        const double top = *std::ranges::max_element(scores);
        double sum = 0;
        for (double& score : scores) sum += score = std::exp(score - top);
        for (int64_t j = 0; j < visible; ++j) {
          values[static_cast<size_t>((t * q_heads + h) * rows + j)] =
              static_cast<float>(scores[static_cast<size_t>(j)] / sum);
        }
      }
    }
    seen = {.queries = queries, .weights = values.data(), .stride = rows, .sums = {}};
  }
  WindowWeights(const WindowWeights&) = delete;

  std::vector<float> values;
  SeenWeights seen;
};

}  // namespace mneme::testing
