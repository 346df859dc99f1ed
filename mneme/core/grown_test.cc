#include "mneme/core/grown.h"

#include <gtest/gtest.h>

namespace mneme {
namespace {

TEST(Grown, GrowsOnlyAndKeepsWhatIsThere) {
  std::vector<int> values;
  grown(values, 3)[2] = 7;
  const int* const before = values.data();
  EXPECT_EQ(grown(values, 2), before);
  EXPECT_EQ(values.size(), 3u);
  EXPECT_EQ(grown(values, 100)[2], 7);
  EXPECT_EQ(values.size(), 100u);
}

}  // namespace
}  // namespace mneme
