#include "mneme/cache/policy/observed.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "mneme/cache/memory_registry.h"
#include "mneme/cache/paged_memory.h"
#include "tests/support/memory_step.h"

namespace mneme {
namespace {

// The second layer has a window.
const MemoryShape kShape = {
    .q_heads = 6, .kv_heads = 3, .k_dim = 16, .v_dim = 24, .context = 1024, .windows = {0, 70}};

// The weights, times the values of their rows, are the answer that the memory gave.
TEST(Observed, TellsTheWeightsOfSingleQueriesAlone) {
  std::map<int64_t, std::vector<float>> answers;  // by layer
  int64_t calls = 0;
  const auto observer = [&](int64_t layer, int64_t head, std::span<const float> weights,
                            const PagedRows& rows) {
    ++calls;
    ASSERT_EQ(std::ssize(weights), rows.rows());
    EXPECT_EQ(rows.position(rows.rows() - 1), 250);
    std::vector<float>& answer = answers[layer];
    answer.resize(6 * 24);
    double sum = 0;
    std::vector<float> k(16), v(24);
    for (int64_t row = 0; row < rows.rows(); ++row) {
      rows.read(row, k.data(), v.data());
      const float weight = weights[static_cast<size_t>(row)];
      sum += weight;
      if (layer == 1 && rows.position(row) <= 250 - 70) {
        EXPECT_EQ(weight, 0);
      }
      for (size_t i = 0; i < v.size(); ++i)
        answer[static_cast<size_t>(head) * 24 + i] += weight * v[i];
    }
    EXPECT_NEAR(sum, 1, 1e-5);
  };
  PagedMemory memory("observed", RowFormat{}, std::make_unique<Observed>(kShape, observer));
  const auto full = MemoryRegistry::builtin().build("full", kShape);
  EXPECT_EQ(testing::step(memory, 250, 1), testing::step(*full, 250, 1));
  EXPECT_EQ(calls, 0);
  const auto fork = memory.fork();
  const std::vector<float> got = testing::step(*fork, 1, 2);
  EXPECT_EQ(got, testing::step(*full, 1, 2));
  EXPECT_EQ(calls, 12);
  for (size_t i = 0; i < got.size(); ++i) {
    const std::vector<float>& layer = answers[static_cast<int64_t>(i / (6 * 24))];
    EXPECT_NEAR(layer[i % (6 * 24)], got[i], 2e-5) << i;
  }
}

}  // namespace
}  // namespace mneme
