// Paged rows with known values for the tests and the bench of attention, and the float64 answer.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <vector>

#include "mneme/core/rng.h"
#include "mneme/kernels/paged_attention.h"
#include "mneme/kernels/row_page.h"

namespace mneme::testing {

// The rows of every KV head, in pages whose unused slots are NaN.
class PagedRows {
 public:
  PagedRows(const RowFormat& format, int64_t kv_heads)
      : format_(format), heads_(static_cast<size_t>(kv_heads)) {}

  // Appends a row at `position` to a head, in a new page when the last one is full or `new_page`.
  void append(int64_t head, int32_t position, const float* k, const float* v,
              bool new_page = false) {
    Head& h = heads_[static_cast<size_t>(head)];
    if (new_page || h.pages.empty() || h.pages.back().positions.size() == kPageRows) {
      Page page;
      page.lines.resize(static_cast<size_t>(format_.page_bytes()) / sizeof(Line));
      std::memset(page.lines.data(), 0xff, page.lines.size() * sizeof(Line));
      h.pages.push_back(std::move(page));
    }
    Page& page = h.pages.back();
    write_row(format_, page.data(), static_cast<int64_t>(page.positions.size()), k, v);
    page.positions.push_back(position);
  }

  // Random normal rows at positions 0, 1, ... rows - 1 in every head.
  void fill(int64_t rows, Rng& rng) {
    std::vector<float> k(static_cast<size_t>(format_.k_dim)), v(static_cast<size_t>(format_.v_dim));
    for (size_t head = 0; head < heads_.size(); ++head) {
      for (int64_t row = 0; row < rows; ++row) {
        for (float& x : k) x = static_cast<float>(rng.normal());
        for (float& x : v) x = static_cast<float>(rng.normal());
        append(static_cast<int64_t>(head), static_cast<int32_t>(row), k.data(), v.data());
      }
    }
  }

  void drop_page(int64_t head, int64_t page) {
    auto& pages = heads_[static_cast<size_t>(head)].pages;
    pages.erase(pages.begin() + page);
  }
  int64_t pages(int64_t head) const {
    return static_cast<int64_t>(heads_[static_cast<size_t>(head)].pages.size());
  }

  // `explicit_positions` hands out position arrays even where they are consecutive.
  const std::vector<std::span<const PageView>>& views(bool explicit_positions = false) {
    spans_.clear();
    for (Head& head : heads_) {
      head.views.clear();
      for (Page& page : head.pages) {
        const auto rows = static_cast<int32_t>(page.positions.size());
        const bool consecutive = page.positions.back() - page.positions.front() == rows - 1;
        head.views.push_back({page.data(),
                              explicit_positions || !consecutive ? page.positions.data() : nullptr,
                              page.positions.front(), rows});
      }
      spans_.push_back(head.views);
    }
    return spans_;
  }

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  struct Page {
    std::vector<Line> lines;
    std::vector<int32_t> positions;
    std::byte* data() { return lines.front().bytes; }
  };
  struct Head {
    std::vector<Page> pages;
    std::vector<PageView> views;
  };

  RowFormat format_;
  std::vector<Head> heads_;
  std::vector<std::span<const PageView>> spans_;
};

// The rows of one KV head as read_row gives them.
struct DecodedRows {
  std::vector<float> k, v;         // [rows, Dk], [rows, Dv]
  std::vector<int64_t> positions;  // [rows]
  std::vector<bool> hidden;        // [rows]

  DecodedRows(const RowFormat& f, std::span<const PageView> pages) {
    for (const PageView& page : pages) {
      for (int64_t row = 0; row < page.rows; ++row) {
        positions.push_back(page.positions ? page.positions[row] : page.first_position + row);
        hidden.push_back((page.hidden >> row & 1) != 0);
        k.resize(positions.size() * static_cast<size_t>(f.k_dim));
        v.resize(positions.size() * static_cast<size_t>(f.v_dim));
        read_row(f, page.data, row, k.data() + k.size() - f.k_dim, v.data() + v.size() - f.v_dim);
      }
    }
  }
  int64_t size() const { return static_cast<int64_t>(positions.size()); }
};

// Softmax weights of one query at position `now` over rows, in `Real` arithmetic; zeros where it
// sees nothing.
template <typename Real>
std::vector<Real> naive_weights(const PagedAttention& config, int64_t now, const float* query,
                                const DecodedRows& rows, int64_t head = 0) {
  const int64_t dim = config.format.k_dim;
  std::vector<Real> weights(rows.positions.size(), -std::numeric_limits<Real>::infinity());
  Real top = -std::numeric_limits<Real>::infinity(), sum = 0;
  for (int64_t j = 0; j < rows.size(); ++j) {
    const int64_t position = rows.positions[j];
    if (position > now || rows.hidden[j]) continue;
    const RowWindow& window = config.window_of(head);
    const int64_t block_end = (now / window.block + 1) * window.block - 1;
    if (window.window > 0 && position <= block_end - window.window && position >= window.sink)
      continue;
    Real dot = 0;
    for (int64_t i = 0; i < dim; ++i) dot += Real{query[i]} * Real{rows.k[j * dim + i]};
    Real score = dot * Real{config.scale};
    if (config.softcap > 0) score = Real{config.softcap} * std::tanh(score / Real{config.softcap});
    weights[j] = score;
    top = std::max(top, score);
  }
  for (Real& weight : weights) {
    weight = std::isinf(top) ? 0 : std::exp(weight - top);
    sum += weight;
  }
  for (Real& weight : weights) weight = sum > 0 ? weight / sum : 0;
  return weights;
}

// Calls body(query t, query head h, KV head's rows) for everything paged_attention answers.
template <typename Body>
void for_each_answer(const PagedAttention& config, int64_t queries,
                     std::span<const std::span<const PageView>> heads, Body&& body) {
  const int64_t ratio = config.q_heads / config.kv_heads;
  for (int64_t head = 0; head < config.kv_heads; ++head) {
    const DecodedRows rows(config.format, heads[static_cast<size_t>(head)]);
    for (int64_t t = 0; t < queries; ++t) {
      for (int64_t h = head * ratio; h < (head + 1) * ratio; ++h) body(t, h, rows);
    }
  }
}

// The definition in the header of paged_attention, in `Real` arithmetic over the values that
// read_row gives: double for the answer, float for what plain float32 code errs by.
template <typename Real>
std::vector<Real> naive_attention(const PagedAttention& config, int64_t queries,
                                  int64_t first_position, const float* q,
                                  std::span<const std::span<const PageView>> heads) {
  const RowFormat& f = config.format;
  std::vector<Real> out(static_cast<size_t>(queries * config.q_heads * f.v_dim));
  for_each_answer(config, queries, heads, [&](int64_t t, int64_t h, const DecodedRows& rows) {
    const int64_t at = t * config.q_heads + h;
    const auto weights = naive_weights<Real>(config, first_position + t, q + at * f.k_dim, rows,
                                             h / (config.q_heads / config.kv_heads));
    for (int64_t j = 0; j < rows.size(); ++j) {
      for (int64_t i = 0; i < f.v_dim; ++i) {
        if (weights[j] != 0) out[at * f.v_dim + i] += weights[j] * Real{rows.v[j * f.v_dim + i]};
      }
    }
  });
  return out;
}

// What multiplying codes in whole numbers (paged_attention.h) may cost: queries and weights are
// rounded to steps, and these errors are independent and uniform. Where rows are read as floats it
// costs nothing.
class RoundingError {
 public:
  explicit RoundingError(const PagedAttention& config)
      : config_(config),
        any_(config.format.quantised() && config.format.group % 32 == 0),
        top_code_(config.format.encoding == RowEncoding::kQ8 ? 255 : 15),
        centre_(config.format.encoding == RowEncoding::kQ8 ? 128 : 8) {}

  // Variance of the score of each row.
  std::vector<double> score_variance(const float* query, const DecodedRows& rows) const {
    const RowFormat& f = config_.format;
    std::vector<double> variance(rows.positions.size());
    for (int64_t j = 0; j < rows.size() && any_; ++j) {
      for (int64_t g = 0; g < f.k_dim; g += f.group) {
        double largest = 0;
        for (int64_t i = 0; i < f.group; ++i) {
          largest = std::max(largest, std::abs(double{query[g + i]}));
        }
        const double step = largest * config_.scale / kLevels;
        const double reach = scale_of(rows.k.data() + j * f.k_dim + g) * centre_;
        variance[j] += step * step / 12 * static_cast<double>(f.group) * reach * reach;
      }
    }
    return variance;
  }

  // Standard deviation of each answer: a first-order step carries the errors there.
  std::vector<double> deviation(int64_t queries, int64_t first_position, const float* q,
                                std::span<const std::span<const PageView>> heads) const {
    const RowFormat& f = config_.format;
    std::vector<double> out(static_cast<size_t>(queries * config_.q_heads * f.v_dim));
    if (!any_) return out;
    for_each_answer(config_, queries, heads, [&](int64_t t, int64_t h, const DecodedRows& rows) {
      const int64_t at = t * config_.q_heads + h;
      const float* query = q + at * f.k_dim;
      const auto weights = naive_weights<double>(config_, first_position + t, query, rows);
      const auto scores = score_variance(query, rows);
      for (int64_t g = 0; g < f.v_dim; g += f.group) {
        const double weighing = weight_variance(weights, rows, g);
        for (int64_t i = g; i < g + f.group; ++i) {
          double mean = 0, variance = weighing;
          for (int64_t j = 0; j < rows.size(); ++j) mean += weights[j] * rows.v[j * f.v_dim + i];
          for (int64_t j = 0; j < rows.size(); ++j) {
            const double moves = weights[j] * (rows.v[j * f.v_dim + i] - mean);
            variance += moves * moves * scores[j];
          }
          out[at * f.v_dim + i] = std::sqrt(variance);
        }
      }
    });
    return out;
  }

 private:
  static constexpr double kLevels = 32639;  // steps to the largest element, at least

  // Of the group that x lies in: its codes reach from 0 to the top.
  double scale_of(const float* x) const {
    const auto [low, high] = std::minmax_element(x, x + config_.format.group);
    return (double{*high} - *low) / top_code_;
  }
  // Of an answer in the group from dimension g on: a page's weights times scales are rounded to
  // steps of the largest.
  double weight_variance(const std::vector<double>& weights, const DecodedRows& rows,
                         int64_t g) const {
    double variance = 0;
    for (int64_t page = 0; page < rows.size(); page += kPageRows) {
      double largest = 0, count = 0;
      for (int64_t j = page; j < std::min(rows.size(), page + kPageRows); ++j) {
        largest =
            std::max(largest, weights[j] * scale_of(rows.v.data() + j * config_.format.v_dim + g));
        count += weights[j] > 0;
      }
      const double step = largest / kLevels;
      variance += step * step / 12 * count * centre_ * centre_;
    }
    return variance;
  }

  const PagedAttention& config_;
  bool any_;
  double top_code_, centre_;
};

inline std::vector<float> normals(Rng& rng, int64_t n) {
  std::vector<float> x(static_cast<size_t>(n));
  for (float& value : x) value = static_cast<float>(rng.normal());
  return x;
}

}  // namespace mneme::testing
