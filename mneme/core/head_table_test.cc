#include "mneme/core/head_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "tests/support/error_of.h"

namespace mneme {
namespace {

using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;

HeadTable table_of(int64_t layers, int64_t heads, const std::vector<double>& values) {
  HeadTable table(layers, heads);
  std::ranges::copy(values, table.values().begin());
  return table;
}

TEST(HeadTable, EqualHeadsAreRankedByLayerThenHead) {
  const HeadTable table = table_of(2, 3, {0.5, -1, 0.5, 2, -1, 0.5});
  EXPECT_THAT(table.ranking(), ElementsAre(HeadId{1, 0}, HeadId{0, 0}, HeadId{0, 2}, HeadId{1, 2},
                                           HeadId{0, 1}, HeadId{1, 1}));
}

TEST(HeadTable, HeadsThatAreNotThereAreRefused) {
  HeadTable table(2, 3);
  EXPECT_THAT(error_of([&] { table.at({2, 0}); }), HasSubstr("head (2,0) is not one of 2 layers"));
  EXPECT_THAT(error_of([&] { table.at({0, 3}); }), HasSubstr("with 3 query heads"));
  EXPECT_THAT(error_of([&] { table.at({-1, 0}); }), HasSubstr("(-1,0)"));
  EXPECT_THAT(error_of([] { HeadTable(0, 3); }), HasSubstr("positive, got 0 and 3"));
  table.at({1, 1}) = std::nan("");
  EXPECT_THAT(error_of([&] { table.ranking(); }), HasSubstr("head (1,1) is not a number"));
}

TEST(HeadTable, RandomHeadsAreDifferentAndNeverOfTheFirst) {
  HeadTable table(5, 4);
  const std::vector<HeadId> ranking = table.ranking();
  Rng rng(4);
  std::set<HeadId> seen;
  for (int draw = 0; draw < 200; ++draw) {
    const std::vector<HeadId> heads = random_heads(ranking, 12, 5, rng);
    const std::set<HeadId> unique(heads.begin(), heads.end());
    EXPECT_EQ(unique.size(), 5u);
    seen.insert(unique.begin(), unique.end());
  }
  EXPECT_EQ(seen, std::set<HeadId>(ranking.begin() + 12, ranking.end()));
  EXPECT_EQ(random_heads(ranking, 12, 8, rng).size(), 8u);
  EXPECT_THAT(error_of([&] { random_heads(ranking, 12, 9, rng); }), HasSubstr("0 to 8 of those"));
}

TEST(HeadTable, RankCorrelation) {
  const HeadTable a = table_of(1, 5, {1, 2, 3, 4, 5});
  EXPECT_DOUBLE_EQ(rank_correlation(a, table_of(1, 5, {2, 30, 31, 400, 500})), 1);
  EXPECT_DOUBLE_EQ(rank_correlation(a, table_of(1, 5, {5, 4, 3, 2, 1})), -1);
  // Ranks 0 1 2 3 4 against 0.5 0.5 2 4 3, around their mean.
  EXPECT_DOUBLE_EQ(rank_correlation(a, table_of(1, 5, {1, 1, 2, 9, 3})), 8.5 / std::sqrt(95));
  EXPECT_THAT(error_of([&] { rank_correlation(a, HeadTable(1, 5)); }), HasSubstr("the same value"));
  EXPECT_THAT(error_of([&] { rank_correlation(a, HeadTable(5, 1)); }),
              HasSubstr("tables of 1 x 5 and 5 x 1"));
}

}  // namespace
}  // namespace mneme
