#include "mneme/cache/paged_rows.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <new>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"

namespace mneme {
namespace {

constexpr int64_t kRoomStep = 16;

// Slots that a page which needs `rows` gets room for.
int64_t room_for(const RowFormat& format, int64_t rows) {
  return format.quantised() ? kPageRows : ceil_div(rows, kRoomStep) * kRoomStep;
}

// The same of page `page` where `slots` slots are in use.
int64_t room_of_page(const RowFormat& format, int64_t page, int64_t slots) {
  return room_for(format, std::min(kPageRows, slots - page * kPageRows));
}

// Bytes of a page with room for `room` slots: its values are [64, Dv], so those of the last slots can
// be left out, while its keys are [Dk, 64].
int64_t page_bytes(const RowFormat& format, int64_t room) {
  const PageLayout layout = page_layout(format);
  if (room == kPageRows) return layout.bytes;
  const int64_t values = (layout.bytes - layout.v) / kPageRows * room;
  return layout.v + checked_round_up(values, 64, "page");
}

}  // namespace

// The stored bits of up to `room` rows; positions only where they are not consecutive.
struct PagedRows::Page {
  Page(const RowFormat& format, int64_t rows) { resize(format, rows); }
  ~Page() { std::free(data); }
  Page(const Page&) = delete;
  Page& operator=(const Page&) = delete;

  // Room for another number of rows, the bits of the rows in both stay. Throws std::bad_alloc and
  // then is as it was.
  void resize(const RowFormat& format, int64_t new_room) {
    const int64_t new_bytes = page_bytes(format, new_room);
    auto* const moved =
        static_cast<std::byte*>(std::aligned_alloc(64, static_cast<size_t>(new_bytes)));
    if (moved == nullptr) throw std::bad_alloc();
    if (data != nullptr) std::memcpy(moved, data, static_cast<size_t>(std::min(bytes, new_bytes)));
    std::free(data);
    data = moved;
    room = new_room;
    bytes = new_bytes;
  }

  std::byte* data = nullptr;
  int64_t room = 0, bytes = 0;
  std::unique_ptr<int32_t[]> positions;  // [kPageRows] or null
};

PagedRows::PagedRows(const PagedRows& other) { *this = other; }

PagedRows& PagedRows::operator=(const PagedRows& other) {
  if (this == &other) return *this;
  format_ = other.format_;
  views_ = other.views_;
  slots_ = other.slots_;
  hidden_ = other.hidden_;
  // Room the other side reserved is its own.
  pages_.assign(other.pages_.begin(), other.pages_.begin() + static_cast<int64_t>(views_.size()));
  return *this;
}

int64_t PagedRows::slot_of(int64_t row) const {
  MNEME_ASSERT(row >= 0 && row < rows());
  if (hidden_ == 0) return row;
  for (int64_t page = 0;; ++page) {
    const PageView& view = views_[static_cast<size_t>(page)];
    const int64_t seen = view.rows - std::popcount(view.hidden);
    if (row >= seen) {
      row -= seen;
      continue;
    }
    for (int64_t slot = page * kPageRows;; ++slot) {
      if (!slot_hidden(slot) && row-- == 0) return slot;
    }
  }
}

int32_t PagedRows::slot_position(int64_t slot) const {
  MNEME_ASSERT(slot >= 0 && slot < slots_);
  const PageView& view = views_[static_cast<size_t>(slot / kPageRows)];
  const auto at = static_cast<int32_t>(slot % kPageRows);
  return view.positions != nullptr ? view.positions[at] : view.first_position + at;
}

bool PagedRows::slot_hidden(int64_t slot) const {
  return (views_[static_cast<size_t>(slot / kPageRows)].hidden >> slot % kPageRows & 1) != 0;
}

void PagedRows::hide_slot(int64_t slot) {
  MNEME_ASSERT(slot >= 0 && slot < slots_ && !slot_hidden(slot));
  views_[static_cast<size_t>(slot / kPageRows)].hidden |= uint64_t{1} << slot % kPageRows;
  ++hidden_;
}

int32_t PagedRows::position(int64_t row) const { return slot_position(slot_of(row)); }

std::byte* PagedRows::writable(int64_t page) {
  std::shared_ptr<Page>& held = pages_[static_cast<size_t>(page)];
  if (held.use_count() > 1) {
    const auto copy = std::make_shared<Page>(format_, held->room);
    std::memcpy(copy->data, held->data, static_cast<size_t>(held->bytes));
    if (held->positions) {
      copy->positions = std::make_unique<int32_t[]>(kPageRows);
      std::copy_n(held->positions.get(), kPageRows, copy->positions.get());
    }
    held = copy;
    if (page < pages()) {
      views_[static_cast<size_t>(page)].data = held->data;
      views_[static_cast<size_t>(page)].positions = held->positions.get();
    }
  }
  return held->data;
}

void PagedRows::resize_page(int64_t page, int64_t room) {
  Page& held = *pages_[static_cast<size_t>(page)];
  held.resize(format_, room);
  if (page < pages()) views_[static_cast<size_t>(page)].data = held.data;
}

void PagedRows::reserve(int64_t first_position, int64_t tokens) {
  MNEME_ASSERT(tokens >= 0 && (rows() == 0 || first_position > position(rows() - 1)));
  if (tokens == 0) return;
  const int64_t needed = ceil_div(slots_ + tokens, kPageRows);
  pages_.reserve(static_cast<size_t>(needed));
  views_.reserve(static_cast<size_t>(needed));
  const int64_t last = slots_ / kPageRows;
  if (slots_ % kPageRows != 0) writable(last);
  for (int64_t page = last; page < needed; ++page) {
    const int64_t room = room_of_page(format_, page, slots_ + tokens);
    if (page == std::ssize(pages_)) {
      pages_.push_back(std::make_shared<Page>(format_, room));
    } else if (pages_[static_cast<size_t>(page)]->room < room) {
      resize_page(page, room);
    }
  }
  if (slots_ % kPageRows != 0) {
    PageView& view = views_[static_cast<size_t>(last)];
    if (view.positions == nullptr && first_position != view.first_position + view.rows) {
      Page& page = *pages_[static_cast<size_t>(last)];
      page.positions = std::make_unique<int32_t[]>(kPageRows);
      for (int32_t slot = 0; slot < view.rows; ++slot)
        page.positions[slot] = view.first_position + slot;
      view.positions = page.positions.get();
    }
  }
}

void PagedRows::append(int32_t position, const float* k, const float* v) {
  const auto page = static_cast<size_t>(slots_ / kPageRows);
  MNEME_ASSERT(page < pages_.size());  // reserve() came first
  write_row(format_, pages_[page]->data, slots_ % kPageRows, k, v);
  count_row(position);
}

void PagedRows::append_packed(int32_t position, const std::byte* packed) {
  const auto page = static_cast<size_t>(slots_ / kPageRows);
  MNEME_ASSERT(page < pages_.size());
  unpack_row(format_, packed, pages_[page]->data, slots_ % kPageRows);
  count_row(position);
}

void PagedRows::count_row(int32_t position) {
  const auto page = static_cast<size_t>(slots_ / kPageRows);
  const int64_t slot = slots_ % kPageRows;
  if (slot == 0) {
    views_.push_back({pages_[page]->data, pages_[page]->positions.get(), position, 0});
  }
  PageView& view = views_[page];
  if (view.positions != nullptr) {
    pages_[page]->positions[slot] = position;
  } else {
    MNEME_ASSERT(position == view.first_position + view.rows);
  }
  ++view.rows;
  ++slots_;
}

void PagedRows::read(int64_t row, float* k, float* v) const {
  const int64_t slot = slot_of(row);
  read_row(format_, views_[static_cast<size_t>(slot / kPageRows)].data, slot % kPageRows, k, v);
}

void PagedRows::pack_slot(int64_t slot, std::byte* packed) const {
  MNEME_ASSERT(slot >= 0 && slot < slots_);
  pack_row(format_, views_[static_cast<size_t>(slot / kPageRows)].data, slot % kPageRows, packed);
}

void PagedRows::release() {
  const int64_t keep = ceil_div(slots_, kPageRows);
  pages_.resize(static_cast<size_t>(keep));
  views_.resize(static_cast<size_t>(keep));
  if (keep == 0) return;
  PageView& last = views_.back();
  last.rows = static_cast<int32_t>(slots_ - (keep - 1) * kPageRows);
  // A page that a fork shares takes its bytes either way.
  const std::shared_ptr<Page>& held = pages_.back();
  const int64_t room = room_of_page(format_, keep - 1, slots_);
  if (held.use_count() > 1 || held->room <= room) return;
  try {
    resize_page(keep - 1, room);
  } catch (const std::bad_alloc&) {  // callers that undo a step must not fail: the room stays
  }
}

void PagedRows::truncate(int64_t rows) {
  MNEME_ASSERT(rows >= 0 && rows <= this->rows());
  while (this->rows() > rows) {
    --slots_;
    uint64_t& hidden = views_[static_cast<size_t>(slots_ / kPageRows)].hidden;
    const uint64_t bit = uint64_t{1} << slots_ % kPageRows;
    if ((hidden & bit) != 0) --hidden_;
    hidden &= ~bit;
  }
  release();
}

void PagedRows::truncate_positions(int64_t position) {
  int64_t keep = rows();
  while (keep > 0 && this->position(keep - 1) >= position) --keep;
  truncate(keep);
}

void PagedRows::drop_pages_inside(int64_t first, int64_t last) {
  const auto inside = [&](const PageView& view) {
    if (view.rows < kPageRows) return false;
    const int64_t newest = view.positions != nullptr ? view.positions[view.rows - 1]
                                                     : view.first_position + view.rows - 1;
    return view.first_position >= first && newest < last;
  };
  size_t kept = 0;
  for (size_t page = 0; page < views_.size(); ++page) {
    if (inside(views_[page])) {
      slots_ -= kPageRows;
      hidden_ -= std::popcount(views_[page].hidden);
      continue;
    }
    if (kept != page) {
      views_[kept] = views_[page];
      pages_[kept] = std::move(pages_[page]);
    }
    ++kept;
  }
  views_.resize(kept);
  pages_.resize(kept);
}

void PagedRows::keep_rows(std::span<const int64_t> indices) {
  int64_t before = -1;
  for (const int64_t index : indices) {
    MNEME_CHECK(index > before && index < rows(),
                "keep_rows: indices must be increasing and below ", rows(), ", got ", index,
                " after ", before);
    before = index;
  }
  int64_t row = 0;
  size_t next = 0;
  for (PageView& view : views_) {
    for (int32_t slot = 0; slot < view.rows; ++slot) {
      const uint64_t bit = uint64_t{1} << slot;
      if ((view.hidden & bit) != 0) continue;
      if (next < indices.size() && indices[next] == row++) {
        ++next;
        continue;
      }
      view.hidden |= bit;
      ++hidden_;
    }
  }
  let_hidden_go();
}

void PagedRows::drop_row(int64_t row) {
  hide_slot(slot_of(row));
  let_hidden_go();
}

void PagedRows::let_hidden_go() {
  const bool frees_a_page = ceil_div(rows(), kPageRows) < pages();
  if (hidden_ >= kPageRows / 2 || (hidden_ >= kPageRows / 4 && frees_a_page)) compact();
}

void PagedRows::compact() {
  int64_t kept = 0, first_moved = 0;
  while (first_moved < pages() && views_[static_cast<size_t>(first_moved)].hidden == 0)
    ++first_moved;
  kept = first_moved * kPageRows;
  for (int64_t page = first_moved; page < pages(); ++page) {
    PageView& view = views_[static_cast<size_t>(page)];
    writable(page);
    Page& held = *pages_[static_cast<size_t>(page)];
    if (held.positions == nullptr) {
      held.positions = std::make_unique<int32_t[]>(kPageRows);
      for (int32_t slot = 0; slot < view.rows; ++slot)
        held.positions[slot] = view.first_position + slot;
    }
    for (int32_t slot = 0; slot < view.rows; ++slot) {
      if ((view.hidden >> slot & 1) != 0) continue;
      Page& to = *pages_[static_cast<size_t>(kept / kPageRows)];
      const int64_t at = kept % kPageRows;
      if (&to != &held || at != slot) {
        copy_row(format_, held.data, slot, to.data, at);
        to.positions[at] = held.positions[slot];
      }
      ++kept;
    }
    view.hidden = 0;
  }
  slots_ = kept;
  hidden_ = 0;
  release();
  for (int64_t page = first_moved; page < pages(); ++page) {
    PageView& view = views_[static_cast<size_t>(page)];
    const Page& held = *pages_[static_cast<size_t>(page)];
    const int64_t rows = std::min(kPageRows, slots_ - page * kPageRows);
    view = {held.data, held.positions.get(), held.positions[0], static_cast<int32_t>(rows)};
  }
}

void PagedRows::renumber(int64_t end, int64_t front,
                         FunctionRef<void(int64_t distance, float* k)> turn) {
  MNEME_ASSERT(end >= rows());
  if (hidden_ > 0) compact();
  const auto place = [&](int64_t row) { return row < front ? row : end - slots_ + row; };
  float k[kMaxHeadDim];
  for (int64_t page = 0; page < pages(); ++page) {
    PageView& view = views_[static_cast<size_t>(page)];
    const int64_t first = page * kPageRows, start = place(first);
    const bool in_a_run = place(first + view.rows - 1) == start + view.rows - 1;
    if (in_a_run && view.positions == nullptr && view.first_position == start) continue;
    std::byte* const data = writable(page);
    for (int32_t slot = 0; slot < view.rows; ++slot) {
      const int64_t distance = place(first + slot) - slot_position(first + slot);
      if (distance == 0) continue;
      read_row(format_, data, slot, k, nullptr);
      turn(distance, k);
      write_key(format_, data, slot, k);
    }
    std::unique_ptr<int32_t[]>& positions = pages_[static_cast<size_t>(page)]->positions;
    positions.reset();
    if (!in_a_run) {
      positions = std::make_unique<int32_t[]>(kPageRows);
      for (int32_t slot = 0; slot < view.rows; ++slot)
        positions[slot] = static_cast<int32_t>(place(first + slot));
    }
    view.positions = positions.get();
    view.first_position = static_cast<int32_t>(start);
  }
}

int64_t PagedRows::table_bytes(bool positions) {
  // A page's two table entries; its control block and what the allocator adds to two blocks.
  constexpr int64_t kTableBytes =
      sizeof(Page) + sizeof(std::shared_ptr<Page>) + sizeof(PageView) + 2 * sizeof(void*) + 2 * 16;
  return kTableBytes + (positions ? kPageRows * int64_t{sizeof(int32_t)} : 0);
}

int64_t PagedRows::bytes_for_rows(const RowFormat& format, int64_t rows, bool positions) {
  const int64_t full = rows / kPageRows, last = rows % kPageRows;
  const int64_t bytes = full * (page_bytes(format, kPageRows) + table_bytes(positions));
  if (last == 0) return bytes;
  return bytes + page_bytes(format, room_for(format, last)) + table_bytes(positions);
}

int64_t PagedRows::bytes_reserved(int64_t tokens) const {
  int64_t bytes = resident_bytes();
  if (tokens == 0) return bytes;
  const int64_t needed = ceil_div(slots_ + tokens, kPageRows);
  for (int64_t page = slots_ / kPageRows; page < needed; ++page) {
    const int64_t room = room_of_page(format_, page, slots_ + tokens);
    if (page >= std::ssize(pages_)) {
      bytes += page_bytes(format_, room) + table_bytes(false);
    } else if (const Page& held = *pages_[static_cast<size_t>(page)]; held.room < room) {
      bytes += page_bytes(format_, room) - held.bytes;
    }
  }
  return bytes;
}

int64_t PagedRows::resident_bytes() const {
  int64_t bytes = 0;
  for (const auto& page : pages_) bytes += page->bytes + table_bytes(page->positions != nullptr);
  return bytes;
}

}  // namespace mneme
