// The rows one KV head of one layer holds: a table of 64-row pages (kernels/row_page.h). Heads are
// independent of each other, so they may hold different numbers of rows. Pages are shared between
// forks and copied when one side writes. Tests: paged_rows_test.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "mneme/kernels/paged_attention.h"
#include "mneme/kernels/row_page.h"

namespace mneme {

class PagedRows {
 public:
  explicit PagedRows(const RowFormat& format) : format_(format) {}
  // A fork: shares every page.
  PagedRows(const PagedRows& other);
  PagedRows& operator=(const PagedRows& other);
  PagedRows(PagedRows&&) noexcept = default;
  PagedRows& operator=(PagedRows&&) noexcept = default;

  int64_t rows() const { return rows_; }
  int64_t pages() const { return static_cast<int64_t>(views_.size()); }
  // For the attention kernel; valid until the next change.
  std::span<const PageView> views() const { return views_; }
  // Position of stored row `row`.
  int32_t position(int64_t row) const;

  // Makes room for `tokens` more rows at positions first_position.., so that append() allocates
  // nothing. First position must exceed every stored one.
  void reserve(int64_t first_position, int64_t tokens);
  // Writes the next row. Throws Error when it cannot be encoded; the row is then not counted.
  void append(int32_t position, const float* k, const float* v);
  // The same from the stored bits that pack() gave: nothing is quantised twice.
  void append_packed(int32_t position, const std::byte* packed);
  // Stored bits of row `row`, format.row_bytes() of them.
  void pack(int64_t row, std::byte* packed) const;
  // Drops the newest rows so that `rows` are left, and room that was reserved beyond them.
  void truncate(int64_t rows);
  // Drops the rows at positions >= `position`.
  void truncate_positions(int64_t position);
  // Drops whole pages whose every row lies in [first, last) of positions.
  void drop_pages_inside(int64_t first, int64_t last);
  // Keeps only the rows with these indices (increasing): moves their bits together, frees the rest.
  // Positions stay theirs.
  void keep_rows(std::span<const int64_t> indices);

  // Pages and tables, reserved room included.
  int64_t resident_bytes() const;
  // The same for `pages` pages.
  static int64_t bytes_for_pages(const RowFormat& format, int64_t pages);

 private:
  struct Page;
  std::shared_ptr<Page> new_page() const;
  // The page as only ours, copied first when a fork shares it.
  std::byte* writable(int64_t page);
  // Counts the row that was written into the next slot.
  void count_row(int32_t position);

  RowFormat format_;
  std::vector<std::shared_ptr<Page>> pages_;  // may be longer than views_: reserved room
  std::vector<PageView> views_;               // one for each page in use
  int64_t rows_ = 0;
};

}  // namespace mneme
