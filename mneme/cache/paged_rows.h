// The rows one KV head of one layer holds: a table of 64-row pages (kernels/row_page.h). Heads are
// independent of each other, so they may hold different numbers of rows. Pages are shared between
// forks and copied when one side writes. The last page has room for the values of as many rows as it
// needs, in steps of 16 (quantised values lie rows interleaved: all 64).
//
// Rows are counted in the order of their positions. A few that were let go may stay in their slots,
// hidden from everyone, until it pays to move the others together. Tests: paged_rows_test.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "mneme/core/function_ref.h"
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

  int64_t rows() const { return slots_ - hidden_; }
  // Those and the hidden ones: entries that a kernel writes for these pages.
  int64_t slots() const { return slots_; }
  // values [slots()]: those of hidden rows are removed, [rows()] are left in front.
  template <typename T>
  void remove_hidden(T* values) const {
    if (hidden_ == 0) return;
    int64_t kept = 0, slot = 0;
    for (const PageView& view : views_) {
      for (int32_t row = 0; row < view.rows; ++row, ++slot)
        if ((view.hidden >> row & 1) == 0) values[kept++] = values[slot];
    }
  }
  int64_t pages() const { return static_cast<int64_t>(views_.size()); }
  // For the attention kernel; valid until the next change.
  std::span<const PageView> views() const { return views_; }
  // Position of row `row`. Cost: O(1) where no row is hidden, else O(pages).
  int32_t position(int64_t row) const;

  // Makes room for `tokens` more rows at positions first_position.., so that append() allocates
  // nothing. First position must exceed every stored one.
  void reserve(int64_t first_position, int64_t tokens);
  // Writes the next row. Throws Error when it cannot be encoded; the row is then not counted.
  void append(int32_t position, const float* k, const float* v);
  // The same from the stored bits that pack() gave: nothing is quantised twice.
  void append_packed(int32_t position, const std::byte* packed);
  // Row `row` as floats: k [k_dim], v [v_dim].
  void read(int64_t row, float* k, float* v) const;
  // Of slot `slot`, hidden or not: its position, its stored bits (format.row_bytes() of them), and
  // whether it is hidden. What a copy needs to give the same bits: sums run over slots.
  int32_t slot_position(int64_t slot) const;
  void pack_slot(int64_t slot, std::byte* packed) const;
  bool slot_hidden(int64_t slot) const;
  void hide_slot(int64_t slot);
  // Drops the newest rows so that `rows` are left, and room that was reserved beyond them.
  void truncate(int64_t rows);
  // Drops the rows at positions >= `position`.
  void truncate_positions(int64_t position);
  // Drops whole pages whose every row lies in [first, last) of positions.
  void drop_pages_inside(int64_t first, int64_t last);
  // Keeps only the rows with these indices (increasing): their bits move together and the rest is
  // freed once there is half a page of it, or a quarter whose leaving frees a page. Positions stay
  // theirs. Allocates only where a page is shared with a fork or had consecutive positions before, or
  // where the last one gives room back.
  void keep_rows(std::span<const int64_t> indices);
  // The same for all rows but one.
  void drop_row(int64_t row);

  // Gives the first `front` rows the positions 0.. and the others the last ones before `end`, at
  // least as many as there are rows; hidden ones leave for good. turn(distance, k) changes a key
  // [k_dim] that moves by so many positions; it is stored again in its encoding, while values keep
  // their bits. Allocates where a page is shared with a fork or has positions with a gap.
  void renumber(int64_t end, int64_t front, FunctionRef<void(int64_t distance, float* k)> turn);

  // Pages and tables, reserved room included.
  int64_t resident_bytes() const;
  // The same after reserve(., tokens), but for tables of positions that it adds.
  int64_t bytes_reserved(int64_t tokens) const;
  // Bytes of `rows` rows in slots from the first on, with a table of positions a page where rows were
  // let go.
  static int64_t bytes_for_rows(const RowFormat& format, int64_t rows, bool positions = false);

 private:
  struct Page;
  // The page as only ours, copied first when a fork shares it.
  std::byte* writable(int64_t page);
  // Gives the page, which is only ours, room for `room` rows.
  void resize_page(int64_t page, int64_t room);
  int64_t slot_of(int64_t row) const;
  // Counts the row that was written into the next slot.
  void count_row(int32_t position);
  // Moves the rows that are not hidden together, where it pays.
  void let_hidden_go();
  void compact();
  // Drops pages, and room in the last one, beyond the slots in use.
  void release();
  // Of one page, without its rows.
  static int64_t table_bytes(bool positions);

  RowFormat format_;
  std::vector<std::shared_ptr<Page>> pages_;  // may be longer than views_: reserved room
  std::vector<PageView> views_;               // one for each page in use
  int64_t slots_ = 0, hidden_ = 0;
};

}  // namespace mneme
