#include "mneme/cache/block_bounds.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "mneme/core/error.h"
#include "mneme/core/rng.h"
#include "tests/support/error_of.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

RowFormat format_of(RowEncoding encoding) {
  return {.encoding = encoding, .k_dim = 32, .v_dim = 32, .group = 32};
}

void append(PagedRows& rows, int64_t count, Rng& rng) {
  const int64_t first = rows.rows();
  rows.reserve(first, count);
  std::vector<float> k(32), v(32);
  for (int64_t i = first; i < first + count; ++i) {
    for (float& value : k) value = static_cast<float>(rng.normal());
    rows.append(static_cast<int32_t>(i), k.data(), v.data());
  }
}

std::vector<float> random_query(Rng& rng) {
  std::vector<float> q(32);
  for (float& value : q) value = static_cast<float>(rng.normal());
  q[3] = 0;
  return q;
}

std::vector<float> scores_of(const BlockBounds& bounds, const std::vector<float>& q) {
  std::vector<float> scores(static_cast<size_t>(bounds.blocks()), -kInfinity);
  bounds.raise(q.data(), scores);
  return scores;
}

// The formula in float64, from all rows, and the sum of its terms' magnitudes.
struct Bound {
  double value = 0, magnitude = 0;
};
std::vector<Bound> naive(const PagedRows& rows, int64_t block, const std::vector<float>& q) {
  std::vector<Bound> bounds;
  for (int64_t first = 0; first < rows.rows(); first += block) {
    std::vector<float> lo(32, kInfinity), hi(32, -kInfinity), key(32);
    for (int64_t row = first; row < std::min(rows.rows(), first + block); ++row) {
      rows.read(row, key.data(), nullptr);
      for (size_t d = 0; d < 32; ++d) {
        lo[d] = std::min(lo[d], key[d]);
        hi[d] = std::max(hi[d], key[d]);
      }
    }
    bounds.emplace_back();
    for (size_t d = 0; d < 32; ++d) {
      const double term = std::max(double{q[d]} * lo[d], double{q[d]} * hi[d]);
      bounds.back().value += term;
      bounds.back().magnitude += std::abs(term);
    }
  }
  return bounds;
}

void expect_naive(const BlockBounds& bounds, const PagedRows& rows, int64_t block, Rng& rng) {
  const std::vector<float> q = random_query(rng), got = scores_of(bounds, q);
  const std::vector<Bound> want = naive(rows, block, q);
  ASSERT_EQ(got.size(), want.size());
  // 32 products and 32 sums, each rounded to 2^-24 of at most the magnitude.
  for (size_t i = 0; i < got.size(); ++i)
    EXPECT_NEAR(got[i], want[i].value, 33 * 0x1p-24 * want[i].magnitude) << i;
}

TEST(BlockBounds, AreThoseOfTheStoredKeysInEveryFormat) {
  Rng rng(5);
  for (const RowEncoding encoding : {RowEncoding::kF32, RowEncoding::kF16, RowEncoding::kBF16,
                                     RowEncoding::kQ8, RowEncoding::kQ4}) {
    for (const int64_t count : {1, 63, 100, 1000}) {
      for (const int64_t block : {1, 3, 16, 64, 100}) {
        PagedRows rows(format_of(encoding));
        append(rows, count, rng);
        BlockBounds bounds(32, block);
        bounds.follow(rows, 0);
        expect_naive(bounds, rows, block, rng);
        EXPECT_EQ(bounds.bytes(), BlockBounds::bytes_for(32, block, count));
      }
    }
  }
}

TEST(BlockBounds, NoKeyOfABlockScoresHigher) {
  Rng rng(6);
  PagedRows rows(format_of(RowEncoding::kF32));
  append(rows, 300, rng);
  BlockBounds bounds(32, 16);
  bounds.follow(rows, 0);
  for (int repeat = 0; repeat < 20; ++repeat) {
    const std::vector<float> q = random_query(rng), scores = scores_of(bounds, q);
    std::vector<float> key(32);
    for (int64_t row = 0; row < rows.rows(); ++row) {
      rows.read(row, key.data(), nullptr);
      float dot = 0;
      for (size_t d = 0; d < 32; ++d) dot += q[d] * key[d];
      EXPECT_LE(dot, scores[static_cast<size_t>(row / 16)] + 1e-4f) << row;
    }
  }
}

// Rows come in steps and are taken back: at every point the bits are those of reading them anew.
TEST(BlockBounds, FollowRowsThatComeAndAreTakenBack) {
  Rng rng(7);
  for (const int64_t block : {1, 16, 100}) {
    PagedRows rows(format_of(RowEncoding::kF16));
    BlockBounds bounds(32, block);
    for (int step = 0; step < 60; ++step) {
      int64_t unchanged = rows.rows();
      if (rng.below(4) == 0 && unchanged > 0) {
        unchanged = rng.below(unchanged + 1);
        rows.truncate(unchanged);
      }
      append(rows, rng.below(3) == 0 ? 1 + rng.below(90) : 1, rng);
      bounds.follow(rows, unchanged);
      BlockBounds anew(32, block);
      anew.follow(rows, 0);
      const std::vector<float> q = random_query(rng);
      ASSERT_EQ(scores_of(bounds, q), scores_of(anew, q)) << "step " << step;
      ASSERT_EQ(bounds.bytes(), anew.bytes());
    }
  }
}

TEST(BlockBounds, AForkGoesItsOwnWay) {
  Rng rng(8);
  PagedRows rows(format_of(RowEncoding::kF16));
  append(rows, 40, rng);
  BlockBounds bounds(32, 16);
  bounds.follow(rows, 0);
  const std::vector<float> q = random_query(rng), before = scores_of(bounds, q);
  PagedRows other_rows = rows;
  BlockBounds other = bounds;
  append(other_rows, 300, rng);
  other.follow(other_rows, 40);
  EXPECT_EQ(scores_of(bounds, q), before);
  expect_naive(other, other_rows, 16, rng);
  append(rows, 5, rng);
  bounds.follow(rows, 40);
  expect_naive(bounds, rows, 16, rng);
  expect_naive(other, other_rows, 16, rng);
  bounds.forget();
  EXPECT_EQ(bounds.blocks(), 0);
  EXPECT_EQ(bounds.bytes(), 0);
}

TEST(BlockBounds, ABoundOnlyRaisesAndOneThatIsNoNumberDoesNothing) {
  Rng rng(9);
  PagedRows rows(format_of(RowEncoding::kF32));
  append(rows, 20, rng);
  BlockBounds bounds(32, 16);
  bounds.follow(rows, 0);
  const std::vector<float> a = random_query(rng), b = random_query(rng);
  std::vector<float> both = scores_of(bounds, a);
  const std::vector<float> first = both, second = scores_of(bounds, b);
  bounds.raise(b.data(), both);
  for (size_t i = 0; i < both.size(); ++i) EXPECT_EQ(both[i], std::max(first[i], second[i]));
  std::vector<float> none = a;
  none[0] = std::nanf("");
  std::vector<float> kept = both;
  bounds.raise(none.data(), kept);
  EXPECT_EQ(kept, both);
}

TEST(BlockBounds, RefuseWhatTheyCannotFollow) {
  EXPECT_THAT(error_of([] { BlockBounds(0, 16); }), HasSubstr("must have channels, got 0"));
  EXPECT_THAT(error_of([] { BlockBounds(32, 0); }), HasSubstr("must hold rows, got 0"));
  Rng rng(1);
  PagedRows rows(format_of(RowEncoding::kF32));
  append(rows, 20, rng);
  BlockBounds bounds(32, 16);
  EXPECT_THAT(error_of([&] { bounds.follow(rows, 21); }), HasSubstr("expected 0 to 20 rows"));
  bounds.follow(rows, 0);
  std::vector<float> scores(3);
  EXPECT_THAT(error_of([&] { bounds.raise(scores.data(), scores); }),
              HasSubstr("expected 2 scores, got 3"));
  rows.drop_row(3);
  EXPECT_THAT(error_of([&] { bounds.follow(rows, 0); }), HasSubstr("1 rows are hidden"));
}

}  // namespace
}  // namespace mneme
