#include "mneme/cache/paged_rows.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"

namespace mneme {

// The stored bits of up to kPageRows rows; positions only where they are not consecutive.
struct PagedRows::Page {
  explicit Page(int64_t bytes)
      : data(static_cast<std::byte*>(std::aligned_alloc(64, static_cast<size_t>(bytes)))) {
    if (data == nullptr) throw std::bad_alloc();
  }
  ~Page() { std::free(data); }
  Page(const Page&) = delete;
  Page& operator=(const Page&) = delete;

  std::byte* data;
  std::unique_ptr<int32_t[]> positions;  // [kPageRows] or null
};

PagedRows::PagedRows(const PagedRows& other) { *this = other; }

PagedRows& PagedRows::operator=(const PagedRows& other) {
  if (this == &other) return *this;
  format_ = other.format_;
  views_ = other.views_;
  rows_ = other.rows_;
  // Room the other side reserved is its own.
  pages_.assign(other.pages_.begin(), other.pages_.begin() + static_cast<int64_t>(views_.size()));
  return *this;
}

int32_t PagedRows::position(int64_t row) const {
  MNEME_ASSERT(row >= 0 && row < rows_);
  const PageView& view = views_[static_cast<size_t>(row / kPageRows)];
  const auto slot = static_cast<int32_t>(row % kPageRows);
  return view.positions != nullptr ? view.positions[slot] : view.first_position + slot;
}

std::shared_ptr<PagedRows::Page> PagedRows::new_page() const {
  return std::make_shared<Page>(format_.page_bytes());
}

std::byte* PagedRows::writable(int64_t page) {
  std::shared_ptr<Page>& held = pages_[static_cast<size_t>(page)];
  if (held.use_count() > 1) {
    const std::shared_ptr<Page> copy = new_page();
    std::memcpy(copy->data, held->data, static_cast<size_t>(format_.page_bytes()));
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

void PagedRows::reserve(int64_t first_position, int64_t tokens) {
  MNEME_ASSERT(tokens >= 0 && (rows_ == 0 || first_position > position(rows_ - 1)));
  if (tokens == 0) return;
  const int64_t needed = ceil_div(rows_ + tokens, kPageRows);
  pages_.reserve(static_cast<size_t>(needed));
  views_.reserve(static_cast<size_t>(needed));
  while (static_cast<int64_t>(pages_.size()) < needed) pages_.push_back(new_page());
  if (rows_ % kPageRows != 0) {
    const int64_t last = rows_ / kPageRows;
    writable(last);
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
  const auto page = static_cast<size_t>(rows_ / kPageRows);
  MNEME_ASSERT(page < pages_.size());  // reserve() came first
  write_row(format_, pages_[page]->data, rows_ % kPageRows, k, v);
  count_row(position);
}

void PagedRows::append_packed(int32_t position, const std::byte* packed) {
  const auto page = static_cast<size_t>(rows_ / kPageRows);
  MNEME_ASSERT(page < pages_.size());
  unpack_row(format_, packed, pages_[page]->data, rows_ % kPageRows);
  count_row(position);
}

void PagedRows::count_row(int32_t position) {
  const auto page = static_cast<size_t>(rows_ / kPageRows);
  const int64_t slot = rows_ % kPageRows;
  if (slot == 0) views_.push_back({pages_[page]->data, nullptr, position, 0});
  PageView& view = views_[page];
  if (view.positions != nullptr) {
    pages_[page]->positions[slot] = position;
  } else {
    MNEME_ASSERT(position == view.first_position + view.rows);
  }
  ++view.rows;
  ++rows_;
}

void PagedRows::pack(int64_t row, std::byte* packed) const {
  MNEME_ASSERT(row >= 0 && row < rows_);
  pack_row(format_, views_[static_cast<size_t>(row / kPageRows)].data, row % kPageRows, packed);
}

void PagedRows::truncate(int64_t rows) {
  MNEME_ASSERT(rows >= 0 && rows <= rows_);
  const int64_t keep = ceil_div(rows, kPageRows);
  pages_.resize(static_cast<size_t>(keep));
  views_.resize(static_cast<size_t>(keep));
  if (keep > 0) views_.back().rows = static_cast<int32_t>(rows - (keep - 1) * kPageRows);
  rows_ = rows;
}

void PagedRows::truncate_positions(int64_t position) {
  int64_t keep = rows_;
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
      rows_ -= kPageRows;
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
  PagedRows kept(format_);
  const auto count = static_cast<int64_t>(indices.size());
  for (int64_t i = 0; i < count; ++i) {
    const int64_t from = indices[static_cast<size_t>(i)];
    MNEME_CHECK(from >= 0 && from < rows_ && (i == 0 || from > indices[static_cast<size_t>(i - 1)]),
                "keep_rows: indices must be increasing and below ", rows_, ", got ", from, " at ",
                i);
    const int64_t slot = i % kPageRows;
    if (slot == 0) {
      kept.pages_.push_back(new_page());
      Page& page = *kept.pages_.back();
      page.positions = std::make_unique<int32_t[]>(kPageRows);
      kept.views_.push_back({page.data, page.positions.get(), position(from), 0});
    }
    Page& page = *kept.pages_.back();
    copy_row(format_, views_[static_cast<size_t>(from / kPageRows)].data, from % kPageRows,
             page.data, slot);
    page.positions[slot] = position(from);
    ++kept.views_.back().rows;
  }
  kept.rows_ = count;
  *this = std::move(kept);
}

int64_t PagedRows::bytes_for_pages(const RowFormat& format, int64_t pages) {
  // A page and its two table entries; its control block and what the allocator adds to two blocks.
  constexpr int64_t kTableBytes =
      sizeof(Page) + sizeof(std::shared_ptr<Page>) + sizeof(PageView) + 2 * sizeof(void*) + 2 * 16;
  return pages * (format.page_bytes() + kTableBytes);
}

int64_t PagedRows::resident_bytes() const {
  int64_t bytes = bytes_for_pages(format_, static_cast<int64_t>(pages_.size()));
  for (const auto& page : pages_) {
    if (page->positions) bytes += kPageRows * static_cast<int64_t>(sizeof(int32_t));
  }
  return bytes;
}

}  // namespace mneme
