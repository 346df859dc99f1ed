#include "mneme/kernels/outlier_features.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/error_of.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// 4 layers, 10 positions, 3 features: feature 0 large everywhere in one layer, feature 1 large at
// one position of every layer, feature 2 large at every position of two layers.
OutlierFeatures example(const OutlierCriteria& criteria) {
  OutlierFeatures features(3, criteria);
  for (int64_t layer = 0; layer < 4; ++layer) {
    std::vector<float> x(10 * 5, 100.0f);  // two columns behind the width
    for (size_t m = 0; m < 10; ++m) {
      x[m * 5] = layer == 1 ? -7.0f : 1.0f;
      x[m * 5 + 1] = m == 3 ? 6.0f : 5.9f;
      x[m * 5 + 2] = layer >= 2 ? 8.0f + static_cast<float>(m) : 0.0f;
    }
    features.add(layer, x.data(), 4, 5);
    features.add(layer, x.data() + 4 * 5, 6, 5);
  }
  return features;
}

std::vector<int64_t> ids(const OutlierCriteria& criteria) {
  std::vector<int64_t> found;
  for (const OutlierFeature& feature : example(criteria).features())
    found.push_back(feature.feature);
  return found;
}

TEST(OutlierFeatures, BothSharesAreAsked) {
  using Ids = std::vector<int64_t>;
  EXPECT_EQ(ids({6, 0.25, 0.06}), Ids({0, 1, 2}));
  EXPECT_EQ(ids({6, 0.26, 0.06}), Ids({1, 2}));
  EXPECT_EQ(ids({6, 0.25, 0.11}), Ids({0, 2}));
  EXPECT_EQ(ids({6, 0.5, 0.5}), Ids({2}));
  EXPECT_EQ(ids({6, 0.51, 0.5}), Ids());
  EXPECT_EQ(ids({6.1, 0, 0}), Ids({0, 2}));
}

TEST(OutlierFeatures, SharesAndCountsAreThoseOfTheData) {
  const OutlierFeatures features = example({});
  EXPECT_EQ(features.layers(), 4);
  EXPECT_EQ(features.values(), 4 * 10 * 3);
  EXPECT_EQ(features.outlier_values(), 10 + 4 + 20);
  const std::vector<OutlierFeature> found = features.features();
  ASSERT_EQ(found.size(), 3u);
  EXPECT_DOUBLE_EQ(found[0].layer_share, 0.25);
  EXPECT_DOUBLE_EQ(found[0].position_share, 0.25);
  EXPECT_EQ(found[0].largest, 7);
  EXPECT_DOUBLE_EQ(found[1].layer_share, 1);
  EXPECT_DOUBLE_EQ(found[1].position_share, 0.1);
  EXPECT_DOUBLE_EQ(found[2].position_share, 0.5);
  EXPECT_EQ(found[2].largest, 17);
}

TEST(OutlierFeatures, NothingSeenIsNoFeature) {
  EXPECT_THAT(OutlierFeatures(3).features(), IsEmpty());
  OutlierFeatures quiet(2, {6, 0, 0});
  const std::vector<float> x = {1, 2};
  quiet.add(0, x.data(), 1, 2);
  EXPECT_THAT(quiet.features(), IsEmpty());
}

TEST(OutlierFeatures, RefusesWhatCannotBe) {
  EXPECT_THAT(error_of([] { OutlierFeatures(0); }), HasSubstr("width must be positive, got 0"));
  EXPECT_THAT(error_of([] {
                OutlierFeatures(3, {0, 0.25, 0.06});
              }),
              HasSubstr("threshold must be positive, got 0"));
  EXPECT_THAT(error_of([] {
                OutlierFeatures(3, {6, 1.5, 0.06});
              }),
              HasSubstr("shares are 0 to 1, got 1.5"));
  OutlierFeatures features(3);
  const std::vector<float> x(6);
  EXPECT_THAT(error_of([&] { features.add(-1, x.data(), 2, 3); }), HasSubstr("got -1"));
  EXPECT_THAT(error_of([&] { features.add(0, x.data(), 3, 2); }), HasSubstr("x_stride >= 3"));
}

}  // namespace
}  // namespace mneme
