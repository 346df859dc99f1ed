#include "mneme/cache/policy/snapkv.h"

#include <algorithm>

#include "mneme/cache/policy/pooling.h"
#include "mneme/core/error.h"

namespace mneme {

SnapKv::SnapKv(const MemoryShape& shape, const EvictionOptions& options, int64_t pool,
               int64_t steepness)
    : PromptEviction(shape, options), pool_(pool), steepness_(steepness) {
  MNEME_CHECK(options.window >= 1, options.name, ": the window must be positive, got ",
              options.window);
  MNEME_CHECK(pool > 0 && pool % 2 == 1, options.name, ": expected an odd pool, got ", pool);
  MNEME_CHECK(steepness >= 0, options.name, ": the steepness must not be negative, got ",
              steepness);
}

void SnapKv::score(const Candidates& candidates, std::span<float> scores) {
  const int64_t q_heads = shape().q_heads, ratio = q_heads / shape().kv_heads;
  std::vector<double> mean(scores.size());
  for (int64_t query = 0; query < candidates.seen.queries; ++query) {
    for (int64_t h = candidates.head * ratio; h < (candidates.head + 1) * ratio; ++h) {
      const std::span<const float> weights =
          candidates.seen.row(query, q_heads, h, std::ssize(scores));
      for (size_t row = 0; row < scores.size(); ++row) mean[row] += weights[row];
    }
  }
  for (double& value : mean) value /= static_cast<double>(candidates.seen.queries * ratio);
  average_pool(mean, pool_, scores);
}

int64_t SnapKv::layer_rows(int64_t layer_index, int64_t layers, int64_t rows,
                           int64_t length) const {
  if (steepness_ == 0 || layers == 1) return rows;
  const int64_t window = options().window;
  int64_t least = (rows - window) / steepness_;
  int64_t most = 2 * (rows - window) - least;
  if (most >= length - window) {
    most = length - window;
    least = 2 * (rows - window) - most;
  }
  return window + most - layer_index * (most - least) / (layers - 1);
}

}  // namespace mneme
