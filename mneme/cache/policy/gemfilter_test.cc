#include "mneme/cache/policy/gemfilter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "mneme/cache/memory_registry.h"
#include "mneme/core/error.h"
#include "tests/support/error_of.h"
#include "tests/support/golden.h"

namespace mneme {
namespace {

using testing::error_of;
using testing::GoldenCase;
using ::testing::HasSubstr;

void check_selection(const GoldenCase& golden) {
  const auto& c = golden.config();
  const int64_t heads = c["heads"], kv_heads = c["kv_heads"], seq = c["seq"], dim = c["head_dim"];
  const std::vector<float> all = golden.floats("in.q"), k = golden.floats("in.k");
  const int64_t rows = golden.shape("in.q")[2];
  std::vector<float> q;  // the last row of every head
  for (int64_t h = 0; h < heads; ++h) {
    const auto from = all.begin() + ((h + 1) * rows - 1) * dim;
    q.insert(q.end(), from, from + dim);
  }
  const auto scores =
      gemfilter_scores(q.data(), heads, kv_heads, dim, seq,
                       [&](int64_t j, int64_t head) { return k.data() + (head * seq + j) * dim; });
  const GemFilterOptions options{.pool = c["pool_kernel"]};
  std::vector<float> pooled;
  const auto chosen = gemfilter_choose(scores, options, c["topk"], pooled);
  EXPECT_EQ(std::vector<int64_t>(chosen.begin(), chosen.end()),
            golden.integers("out.selected_sorted"))
      << golden.name();
  testing::expect_close(pooled, golden.floats("out.scores"), golden.abs_tolerance(),
                        golden.rel_tolerance(), golden.name() + "/out.scores");
}

TEST(GoldenGemFilter, Selection) {
  const auto file = testing::GoldenFile::open("31-gemfilter");
  if (!file) GTEST_SKIP() << "31-gemfilter.safetensors";
  int checked = 0;
  for (const GoldenCase& golden : file->cases()) {
    if (golden.kind() != "select") continue;
    ++checked;
    check_selection(golden);
  }
  EXPECT_GT(checked, 0);
}

TEST(GemFilter, ForcedTokensStayAndTiesGoToTheEarlier) {
  std::vector<float> pooled;
  const std::vector<double> equal(10, 1.0);
  EXPECT_EQ(gemfilter_choose(equal, {.pool = 1}, 3, pooled), (std::vector<int32_t>{0, 1, 2}));
  EXPECT_EQ(gemfilter_choose(equal, {.pool = 1, .force_first = 1, .force_last = 2}, 4, pooled),
            (std::vector<int32_t>{0, 1, 8, 9}));
  EXPECT_EQ(gemfilter_choose(equal, {.pool = 1}, 1, pooled), (std::vector<int32_t>{0}));
  EXPECT_EQ(gemfilter_choose(equal, {.pool = 1}, 99, pooled).size(), 10u);
  // Zeros outside the text raise the edges where products are negative.
  const std::vector<double> negative(6, -1.0);
  EXPECT_EQ(gemfilter_choose(negative, {.pool = 5}, 2, pooled), (std::vector<int32_t>{0, 5}));
}

TEST(GemFilter, PicksALayerThatSeesTheWholeText) {
  MemoryShape shape = {
      .q_heads = 2, .kv_heads = 1, .k_dim = 8, .v_dim = 8, .context = 64, .windows = {}};
  shape.windows.assign(30, 0);
  const GemFilterOptions some{.keep = {.rows = 5}};
  EXPECT_EQ(GemFilter(shape, some).layer(), 13);
  for (int64_t layer = 0; layer < 30; ++layer)
    if (layer % 6 != 5) shape.windows[static_cast<size_t>(layer)] = 512;
  EXPECT_EQ(GemFilter(shape, some).layer(), 11);
  const auto refusal = [&](const GemFilterOptions& options) {
    return error_of([&] { GemFilter(shape, options); });
  };
  EXPECT_THAT(refusal({.layer = 12, .keep = {.rows = 5}}), HasSubstr("layer 12 has a window"));
  EXPECT_THAT(refusal({.layer = 30, .keep = {.rows = 5}}),
              HasSubstr("layers 0 to 29, got layer 30"));
  EXPECT_THAT(refusal({.layer = 5}), HasSubstr("one of the two; got 0 and 0"));
  EXPECT_THAT(refusal({.layer = 5, .keep = {.rows = 5}, .pool = 2}), HasSubstr("odd"));
  EXPECT_THAT(refusal({.layer = 5, .keep = {.rows = 5}, .force_last = 6}),
              HasSubstr("5 rows cannot hold"));
}

TEST(GemFilter, GoesWithFormatsAndPolicies) {
  const MemoryShape shape = {
      .q_heads = 2, .kv_heads = 1, .k_dim = 64, .v_dim = 64, .context = 64, .windows = {0, 0, 0}};
  const auto memory =
      MemoryRegistry::builtin().build("gemfilter(keep=10)+cake(budget=0.5)+q8", shape);
  EXPECT_NE(memory->prompt_filter(), nullptr);
  EXPECT_FALSE(memory->capabilities().exact);
  EXPECT_EQ(memory->prompt_filter()->kept(100), 10);
  EXPECT_EQ(memory->prompt_filter()->kept(7), 7);
  EXPECT_EQ(memory->fork()->prompt_filter(), memory->prompt_filter());
}

}  // namespace
}  // namespace mneme
