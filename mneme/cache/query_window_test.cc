#include "mneme/cache/query_window.h"

#include <gtest/gtest.h>

#include <numeric>

namespace mneme {
namespace {

// Queries 0, 1, 2 ... of two floats each: [i, i].
std::vector<float> queries(int64_t first, int64_t count) {
  std::vector<float> q;
  for (int64_t i = first; i < first + count; ++i) q.insert(q.end(), 2, static_cast<float>(i));
  return q;
}

TEST(QueryWindow, HoldsTheNewestWhateverTheParts) {
  const std::vector<std::vector<int64_t>> ways = {{20},       {3, 17},      {17, 3},
                                                  {1, 1, 18}, {5, 5, 5, 5}, {1, 2, 3, 4, 5, 5}};
  for (const auto& parts : ways) {
    QueryWindow window(2, 7, 2);
    int64_t at = 0;
    for (size_t i = 0; i < parts.size(); ++i) {
      const std::vector<float> q = queries(at, parts[i]);
      std::vector<float> joined;
      const auto newest = window.newest(1, q.data(), parts[i], joined);
      at += parts[i];
      const int64_t held = std::min<int64_t>(7, at);
      EXPECT_EQ(std::vector<float>(newest.begin(), newest.end()), queries(at - held, held));
      window.push(1, q.data(), parts[i]);
    }
    std::vector<float> joined;
    const std::vector<float> first = queries(100, 2);
    EXPECT_EQ(window.newest(0, first.data(), 2, joined).size(), 4u) << "layers are apart";
  }
}

}  // namespace
}  // namespace mneme
