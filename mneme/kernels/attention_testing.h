// Paged rows with known values for the tests and the bench of attention, and the float64 answer.
#pragma once

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

// The definition in the header of paged_attention, in `Real` arithmetic over the values that
// read_row gives: double for the answer, float for what plain float32 code errs by.
template <typename Real>
std::vector<Real> naive_attention(const PagedAttention& config, int64_t queries,
                                  int64_t first_position, const float* q,
                                  std::span<const std::span<const PageView>> heads) {
  const RowFormat& f = config.format;
  const int64_t ratio = config.q_heads / config.kv_heads;
  std::vector<Real> out(static_cast<size_t>(queries * config.q_heads * f.v_dim));
  for (int64_t head = 0; head < config.kv_heads; ++head) {
    std::vector<float> ks, vs;
    std::vector<int64_t> positions;
    for (const PageView& page : heads[static_cast<size_t>(head)]) {
      for (int64_t row = 0; row < page.rows; ++row) {
        positions.push_back(page.positions ? page.positions[row] : page.first_position + row);
        ks.resize(positions.size() * static_cast<size_t>(f.k_dim));
        vs.resize(positions.size() * static_cast<size_t>(f.v_dim));
        read_row(f, page.data, row, ks.data() + ks.size() - f.k_dim,
                 vs.data() + vs.size() - f.v_dim);
      }
    }
    for (int64_t t = 0; t < queries; ++t) {
      const int64_t now = first_position + t;
      for (int64_t h = head * ratio; h < (head + 1) * ratio; ++h) {
        const float* query = q + (t * config.q_heads + h) * f.k_dim;
        Real* o = out.data() + (t * config.q_heads + h) * f.v_dim;
        std::vector<Real> scores(positions.size(), -std::numeric_limits<Real>::infinity());
        Real top = -std::numeric_limits<Real>::infinity(), sum = 0;
        for (size_t j = 0; j < positions.size(); ++j) {
          if (positions[j] > now) continue;
          if (config.window > 0 && positions[j] <= now - config.window &&
              positions[j] >= config.sink)
            continue;
          Real dot = 0;
          for (int64_t i = 0; i < f.k_dim; ++i)
            dot += Real{query[i]} * Real{ks[j * static_cast<size_t>(f.k_dim) + i]};
          scores[j] = dot * Real{config.scale};
          if (config.softcap > 0)
            scores[j] = Real{config.softcap} * std::tanh(scores[j] / Real{config.softcap});
          top = std::max(top, scores[j]);
        }
        if (std::isinf(top)) continue;
        for (size_t j = 0; j < positions.size(); ++j) {
          const Real p = std::exp(scores[j] - top);
          if (p == 0) continue;
          sum += p;
          for (int64_t i = 0; i < f.v_dim; ++i)
            o[i] += p * Real{vs[j * static_cast<size_t>(f.v_dim) + i]};
        }
        for (int64_t i = 0; i < f.v_dim; ++i) o[i] /= sum;
      }
    }
  }
  return out;
}

inline std::vector<float> normals(Rng& rng, int64_t n) {
  std::vector<float> x(static_cast<size_t>(n));
  for (float& value : x) value = static_cast<float>(rng.normal());
  return x;
}

}  // namespace mneme::testing
