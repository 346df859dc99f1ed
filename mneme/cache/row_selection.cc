#include "mneme/cache/row_selection.h"

#include <algorithm>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"

namespace mneme {
namespace {

// Bits [first, last) of a word.
uint64_t bits(int64_t first, int64_t last) {
  const uint64_t below = last == 64 ? ~uint64_t{0} : (uint64_t{1} << last) - 1;
  return below & ~((uint64_t{1} << first) - 1);
}

}  // namespace

void RowSelection::start(int64_t kv_heads) {
  pages_.resize(static_cast<size_t>(kv_heads));
  views_.clear();
  rows_ = 0;
}

void RowSelection::choose(const PolicyRows& rows, int64_t layer, int64_t kv_heads, int64_t block,
                          std::span<const int32_t> blocks) {
  start(kv_heads);
  for (int64_t head = 0; head < kv_heads; ++head)
    choose_of(rows.of(layer, head), layer, block, blocks);
}

void RowSelection::choose(const PolicyRows& rows, int64_t layer, int64_t block,
                          std::span<const std::vector<int32_t>> blocks) {
  start(std::ssize(blocks));
  for (size_t head = 0; head < blocks.size(); ++head)
    choose_of(rows.of(layer, static_cast<int64_t>(head)), layer, block, blocks[head]);
}

void RowSelection::choose_of(const PagedRows& source, int64_t layer, int64_t block,
                             std::span<const int32_t> blocks) {
  MNEME_CHECK(block > 0, "row selection: a block must hold rows, got ", block);
  const int64_t held = source.rows();
  MNEME_CHECK(source.slots() == held && (held == 0 || source.position(held - 1) == held - 1),
              "row selection: layer ", layer, " has let rows go");
  wanted_.assign(static_cast<size_t>(ceil_div(held, kPageRows)), 0);
  int64_t before = -1, count = 0;
  for (const int64_t id : blocks) {
    MNEME_CHECK(id > before && id * block < held, "row selection: expected blocks of ", block,
                " in increasing order within ", held, " rows, got ", id, " after ", before);
    before = id;
    const int64_t end = std::min(held, (id + 1) * block);
    count += end - id * block;
    for (int64_t row = id * block; row < end;) {
      const int64_t page = row / kPageRows, last = std::min(end, (page + 1) * kPageRows);
      wanted_[static_cast<size_t>(page)] |= bits(row % kPageRows, last - page * kPageRows);
      row = last;
    }
  }
  rows_ = std::max(rows_, count);
  std::vector<PageView>& pages = pages_[views_.size()];
  pages.clear();
  for (size_t page = 0; page < wanted_.size(); ++page) {
    if (wanted_[page] == 0) continue;
    pages.push_back(source.views()[page]);
    pages.back().hidden = ~wanted_[page];
  }
  views_.emplace_back(pages);
}

}  // namespace mneme
