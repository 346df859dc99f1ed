#include "mneme/kernels/paged_attention.h"

#include <algorithm>
#include <cmath>

#include "mneme/core/error.h"

namespace mneme {

float* AttentionScratch::reserve(int64_t floats) {
  constexpr int64_t kAlign = 64 / sizeof(float);
  if (static_cast<int64_t>(storage_.size()) < floats + kAlign)
    storage_.resize(static_cast<size_t>(floats + kAlign));
  const auto address = reinterpret_cast<uintptr_t>(storage_.data());
  return storage_.data() + (64 - address % 64) % 64 / sizeof(float);
}

void paged_attention(const PagedAttention& config, int64_t queries, int64_t first_position,
                     const float* q, std::span<const std::span<const PageView>> heads, float* out,
                     AttentionScratch&, ThreadPool& pool) {
  const RowFormat& format = config.format;
  format.validate();
  const int64_t ratio = config.q_heads / config.kv_heads;
  pool.run(config.kv_heads, [&](int64_t head, int) {
    std::vector<float> k, v, scores;
    std::vector<int64_t> positions;
    for (const PageView& page : heads[static_cast<size_t>(head)]) {
      for (int64_t row = 0; row < page.rows; ++row) {
        positions.push_back(page.positions ? page.positions[row] : page.first_position + row);
        k.resize(positions.size() * format.k_dim);
        v.resize(positions.size() * format.v_dim);
        read_row(format, page.data, row, k.data() + (positions.size() - 1) * format.k_dim,
                 v.data() + (positions.size() - 1) * format.v_dim);
      }
    }
    scores.resize(positions.size());
    for (int64_t t = 0; t < queries; ++t) {
      const int64_t now = first_position + t;
      const auto visible = [&](size_t j) {
        return positions[j] <= now && (config.window <= 0 || positions[j] > now - config.window ||
                                       positions[j] < config.sink);
      };
      for (int64_t h = head * ratio; h < (head + 1) * ratio; ++h) {
        const float* query = q + (t * config.q_heads + h) * format.k_dim;
        float* o = out + (t * config.q_heads + h) * format.v_dim;
        std::fill(o, o + format.v_dim, 0.0f);
        float top = -INFINITY, sum = 0;
        for (size_t j = 0; j < positions.size(); ++j) {
          if (!visible(j)) continue;
          float dot = 0;
          for (int64_t i = 0; i < format.k_dim; ++i) dot += query[i] * k[j * format.k_dim + i];
          scores[j] = dot * config.scale;
          if (config.softcap > 0)
            scores[j] = config.softcap * std::tanh(scores[j] / config.softcap);
          top = std::max(top, scores[j]);
        }
        for (size_t j = 0; j < positions.size(); ++j) {
          if (!visible(j)) continue;
          const float p = std::exp(scores[j] - top);
          sum += p;
          for (int64_t i = 0; i < format.v_dim; ++i) o[i] += p * v[j * format.v_dim + i];
        }
        for (int64_t i = 0; i < format.v_dim && sum > 0; ++i) o[i] /= sum;
      }
    }
  });
}

}  // namespace mneme
