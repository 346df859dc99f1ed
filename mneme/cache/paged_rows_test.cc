#include "mneme/cache/paged_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "mneme/core/error.h"
#include "mneme/core/rng.h"

namespace mneme {
namespace {

const RowFormat kFormat = {.encoding = RowEncoding::kF32, .k_dim = 3, .v_dim = 2};

// A list of rows that behaves as PagedRows should, without pages.
struct Model {
  std::vector<int32_t> positions;
};

void append(PagedRows& rows, Model& model, int64_t first, int64_t count) {
  rows.reserve(first, count);
  for (int64_t i = 0; i < count; ++i) {
    const auto position = static_cast<int32_t>(first + i);
    const auto x = static_cast<float>(position);
    const float k[3] = {x, x + 0.25f, -x};
    const float v[2] = {2 * x, x * x};
    rows.append(position, k, v);
    model.positions.push_back(position);
  }
}

void expect_equal(const PagedRows& rows, const Model& model) {
  ASSERT_EQ(rows.rows(), static_cast<int64_t>(model.positions.size()));
  int64_t row = 0;
  std::vector<int32_t> written;  // by a kernel, one for each slot
  for (const PageView& view : rows.views()) {
    for (int32_t slot = 0; slot < view.rows; ++slot) {
      written.push_back(view.positions != nullptr ? view.positions[slot]
                                                  : view.first_position + slot);
      if ((view.hidden >> slot & 1) != 0) continue;
      const int32_t position = model.positions[static_cast<size_t>(row)];
      EXPECT_EQ(written.back(), position);
      EXPECT_EQ(rows.position(row++), position);
      float k[3], v[2];
      read_row(kFormat, view.data, slot, k, v);
      EXPECT_EQ(k[0], static_cast<float>(position));
      EXPECT_EQ(v[1], static_cast<float>(position) * static_cast<float>(position));
    }
  }
  EXPECT_EQ(row, rows.rows());
  EXPECT_EQ(rows.slots(), static_cast<int64_t>(written.size()));
  EXPECT_LT(rows.slots() - rows.rows(), kPageRows / 2);
  EXPECT_EQ(rows.pages(), (rows.slots() + kPageRows - 1) / kPageRows);
  rows.remove_hidden(written.data());
  written.resize(model.positions.size());
  EXPECT_EQ(written, model.positions);
}

TEST(PagedRows, RandomOperationsMatchAPlainList) {
  Rng rng(11);
  for (int round = 0; round < 30; ++round) {
    PagedRows rows(kFormat);
    Model model;
    std::vector<std::pair<PagedRows, Model>> forks;
    int64_t next = 0;
    for (int operation = 0; operation < 40; ++operation) {
      switch (rng.below(6)) {
        case 0:
        case 1: {
          const int64_t count = 1 + rng.below(100);
          next += rng.below(3) == 0 ? rng.below(10) : 0;  // positions may leave a gap
          append(rows, model, next, count);
          next += count;
          break;
        }
        case 2: {
          const int64_t keep = rng.below(rows.rows() + 1);
          rows.truncate(keep);
          model.positions.resize(static_cast<size_t>(keep));
          break;
        }
        case 3: {
          std::vector<int64_t> kept;
          Model reduced;
          const int64_t share = rng.below(2) == 0 ? 3 : 40;  // many go, or a few
          for (int64_t row = 0; row < rows.rows(); ++row) {
            if (rng.below(share) == 0) continue;
            kept.push_back(row);
            reduced.positions.push_back(model.positions[static_cast<size_t>(row)]);
          }
          rows.keep_rows(kept);
          model = reduced;
          break;
        }
        case 4: {
          const int64_t position = next - rng.below(next + 1);
          rows.truncate_positions(position);
          std::erase_if(model.positions, [&](int32_t p) { return p >= position; });
          break;
        }
        default:
          forks.emplace_back(rows, model);
          break;
      }
      expect_equal(rows, model);
    }
    for (const auto& [fork, expected] : forks) expect_equal(fork, expected);
  }
}

TEST(PagedRows, AForkSharesPagesUntilOneSideWrites) {
  PagedRows parent(kFormat);
  Model model;
  append(parent, model, 0, 100);
  PagedRows fork = parent;
  EXPECT_EQ(fork.views()[0].data, parent.views()[0].data);
  Model fork_model = model;
  append(fork, fork_model, 100, 10);
  EXPECT_EQ(fork.views()[0].data, parent.views()[0].data);  // full pages stay shared
  EXPECT_NE(fork.views()[1].data, parent.views()[1].data);
  append(parent, model, 100, 64);
  expect_equal(parent, model);
  expect_equal(fork, fork_model);
}

TEST(PagedRows, DropsOnlyFullPagesThatLieInside) {
  PagedRows rows(kFormat);
  Model model;
  append(rows, model, 0, 300);
  rows.drop_pages_inside(4, 200);  // pages 64..127 and 128..191
  std::erase_if(model.positions, [](int32_t p) { return p >= 64 && p < 192; });
  EXPECT_EQ(rows.pages(), 3);
  EXPECT_EQ(rows.rows(), 300 - 128);
  EXPECT_EQ(rows.views()[1].first_position, 192);
  rows.drop_pages_inside(0, 300);  // the last page is not full
  EXPECT_EQ(rows.pages(), 1);
  EXPECT_EQ(rows.position(0), 256);
  EXPECT_EQ(rows.rows(), 44);
}

TEST(PagedRows, CountsTheBytesItHolds) {
  PagedRows rows(kFormat);
  EXPECT_EQ(rows.resident_bytes(), 0);
  rows.reserve(0, 65);
  EXPECT_EQ(rows.resident_bytes(), PagedRows::bytes_for_rows(kFormat, 65));
  rows.truncate(0);
  EXPECT_EQ(rows.resident_bytes(), 0);
  EXPECT_GE(PagedRows::bytes_for_rows(kFormat, kPageRows), kFormat.page_bytes());
}

TEST(PagedRows, TheLastPageHasRoomForWhatItNeeds) {
  const RowFormat format = {.encoding = RowEncoding::kF16, .k_dim = 64, .v_dim = 64};
  const std::vector<float> row(64, 1.0f);
  PagedRows rows(format);
  for (int32_t position = 0; position < 200; ++position) {
    const int64_t reserved = rows.bytes_reserved(1), three = rows.bytes_reserved(100);
    EXPECT_GE(three, reserved);
    rows.reserve(position, 1);
    EXPECT_EQ(rows.resident_bytes(), reserved);
    rows.append(position, row.data(), row.data());
    EXPECT_EQ(rows.resident_bytes(), PagedRows::bytes_for_rows(format, position + 1));
  }
  // 200 rows: three pages and half a page's keys with the values of 16 rows.
  EXPECT_EQ(PagedRows::bytes_for_rows(format, 200) - PagedRows::bytes_for_rows(format, 192),
            PagedRows::bytes_for_rows(format, 64) - 48 * 64 * 2);
  EXPECT_EQ(PagedRows::bytes_for_rows(format, 193), PagedRows::bytes_for_rows(format, 208));
  const int64_t reserved = rows.bytes_reserved(100);
  rows.reserve(200, 100);
  EXPECT_EQ(rows.resident_bytes(), reserved);
  rows.truncate(130);
  EXPECT_EQ(rows.resident_bytes(), PagedRows::bytes_for_rows(format, 130));
  PagedRows fork = rows;
  fork.truncate(65);  // shared pages stay as they are
  EXPECT_EQ(fork.views()[1].data, rows.views()[1].data);
  const RowFormat codes = {.encoding = RowEncoding::kQ4, .k_dim = 64, .v_dim = 64};
  EXPECT_EQ(PagedRows::bytes_for_rows(codes, 1), PagedRows::bytes_for_rows(codes, 64));
}

TEST(PagedRows, HiddenRowsLeaveSoonerWhereThatFreesAPage) {
  PagedRows rows(kFormat);
  Model model;
  append(rows, model, 0, 128 + 20);
  for (int64_t gone = 1; gone <= 20; ++gone) {
    rows.drop_row(0);
    EXPECT_EQ(rows.pages(), gone < 20 ? 3 : 2) << gone;
  }
  append(rows, model, 148, 40);  // one page, 40 of 64 slots
  for (int64_t gone = 1; gone < kPageRows / 2; ++gone) rows.drop_row(0);
  EXPECT_EQ(rows.slots() - rows.rows(), kPageRows / 2 - 1);
  rows.drop_row(0);
  EXPECT_EQ(rows.slots(), rows.rows());
}

TEST(PagedRows, RefusesBadIndices) {
  PagedRows rows(kFormat);
  Model model;
  append(rows, model, 0, 10);
  EXPECT_THROW(rows.keep_rows(std::vector<int64_t>{0, 10}), Error);
  EXPECT_THROW(rows.keep_rows(std::vector<int64_t>{3, 3}), Error);
  EXPECT_THROW(rows.keep_rows(std::vector<int64_t>{-1}), Error);
  expect_equal(rows, model);
}

}  // namespace
}  // namespace mneme
