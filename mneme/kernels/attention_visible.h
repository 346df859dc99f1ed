// Which rows of a page a query sees (the rule is in paged_attention.h). Tests:
// paged_attention_test.cc.
#pragma once

#include <algorithm>
#include <cstdint>

#include "mneme/kernels/paged_attention.h"

namespace mneme {

inline int64_t position_of(const PageView& page, int64_t row) {
  return page.positions != nullptr ? page.positions[row] : int64_t{page.first_position} + row;
}

// [0, sink) and [low, high), less the hidden ones.
struct VisibleRows {
  int32_t sink = 0, low = 0, high = 0;
  uint64_t hidden = 0;
  int32_t begin() const { return sink > 0 ? 0 : low; }
  int32_t end() const { return std::max(sink, high); }
  bool empty() const { return sink == 0 && low >= high; }
};

// How many of the page's rows lie at positions <= position.
inline int32_t rows_up_to(const PageView& page, int64_t position) {
  if (page.positions == nullptr) {
    return static_cast<int32_t>(
        std::clamp<int64_t>(position - page.first_position + 1, 0, page.rows));
  }
  if (page.positions[page.rows - 1] <= position) return page.rows;
  return static_cast<int32_t>(
      std::upper_bound(page.positions, page.positions + page.rows, position) - page.positions);
}

inline VisibleRows visible_rows(const RowWindow& window, const PageView& page, int64_t position) {
  VisibleRows rows;
  rows.high = rows_up_to(page, position);
  rows.hidden = page.hidden;
  if (window.window <= 0) return rows;
  rows.low = rows_up_to(page, std::min(position, window.first(position) - 1));
  rows.sink = std::min(rows.low, rows_up_to(page, window.sink - 1));
  if (rows.low >= rows.high) rows.low = rows.high = 0;
  return rows;
}

}  // namespace mneme
