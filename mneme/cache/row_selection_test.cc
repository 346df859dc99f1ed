#include "mneme/cache/row_selection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "mneme/core/error.h"
#include "mneme/core/rng.h"
#include "tests/support/error_of.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

constexpr RowFormat kFormat = {.encoding = RowEncoding::kF32, .k_dim = 2, .v_dim = 2};

// Two heads of one layer, rows at positions 0, 1, ...
class Rows final : public PolicyRows {
 public:
  explicit Rows(int64_t count) : heads_(2, PagedRows(kFormat)) {
    for (PagedRows& rows : heads_) {
      rows.reserve(0, count);
      const float row[2] = {1, 2};
      for (int64_t i = 0; i < count; ++i) rows.append(static_cast<int32_t>(i), row, row);
    }
  }
  const PagedRows& of(int64_t, int64_t head) const override {
    return heads_[static_cast<size_t>(head)];
  }
  void keep(int64_t, int64_t head, std::span<const int64_t> indices) override {
    heads_[static_cast<size_t>(head)].keep_rows(indices);
  }
  void drop(int64_t, int64_t head, int64_t row) override {
    heads_[static_cast<size_t>(head)].drop_row(row);
  }
  bool at_once() const override { return true; }

 private:
  std::vector<PagedRows> heads_;
};

std::vector<int64_t> seen_positions(std::span<const PageView> pages) {
  std::vector<int64_t> positions;
  for (const PageView& page : pages) {
    for (int64_t row = 0; row < page.rows; ++row)
      if ((page.hidden >> row & 1) == 0) positions.push_back(page.first_position + row);
  }
  return positions;
}

TEST(RowSelection, ShowsTheRowsOfTheBlocksAndNoOthers) {
  Rng rng(3);
  for (const int64_t count : {1, 63, 64, 65, 200, 1000}) {
    const Rows rows(count);
    for (const int64_t block : {1, 3, 16, 64, 100, 128}) {
      std::vector<int32_t> blocks;
      std::vector<int64_t> want;
      for (int64_t id = 0; id * block < count; ++id) {
        if (rng.below(3) != 0) continue;
        blocks.push_back(static_cast<int32_t>(id));
        for (int64_t row = id * block; row < std::min(count, (id + 1) * block); ++row)
          want.push_back(row);
      }
      RowSelection selection;
      selection.choose(rows, 0, 2, block, blocks);
      EXPECT_EQ(selection.rows(), std::ssize(want));
      ASSERT_EQ(selection.views().size(), 2u);
      for (const auto pages : selection.views()) {
        EXPECT_EQ(seen_positions(pages), want) << count << " rows, blocks of " << block;
        for (const PageView& page : pages) EXPECT_NE(page.hidden, ~uint64_t{0});
      }
    }
  }
}

TEST(RowSelection, ShowsEachHeadTheRowsOfItsOwnBlocks) {
  const Rows rows(200);
  RowSelection selection;
  const std::vector<int32_t> blocks[] = {{0, 12}, {3, 4, 7}};
  selection.choose(rows, 0, 16, blocks);
  EXPECT_EQ(selection.rows(), 3 * 16);
  ASSERT_EQ(selection.views().size(), 2u);
  for (size_t head = 0; head < 2; ++head) {
    std::vector<int64_t> want;
    for (const int64_t id : blocks[head])
      for (int64_t row = id * 16; row < std::min<int64_t>(200, (id + 1) * 16); ++row)
        want.push_back(row);
    EXPECT_EQ(seen_positions(selection.views()[head]), want);
  }
  const std::vector<int32_t> beyond[] = {{0}, {13}};
  EXPECT_THAT(error_of([&] { selection.choose(rows, 0, 16, beyond); }),
              HasSubstr("within 200 rows, got 13"));
}

TEST(RowSelection, RefusesWhatItCannotCount) {
  Rows rows(100);
  RowSelection selection;
  const auto refusal = [&](int64_t block, const std::vector<int32_t>& blocks) {
    return error_of([&] { selection.choose(rows, 0, 2, block, blocks); });
  };
  EXPECT_THAT(refusal(0, {0}), HasSubstr("got 0"));
  EXPECT_THAT(refusal(10, {10}), HasSubstr("within 100 rows, got 10"));
  EXPECT_THAT(refusal(10, {3, 3}), HasSubstr("got 3 after 3"));
  EXPECT_THAT(refusal(10, {-1}), HasSubstr("got -1"));
  rows.drop(0, 1, 5);
  EXPECT_THAT(refusal(10, {1}), HasSubstr("has let rows go"));
}

}  // namespace
}  // namespace mneme
