#include "mneme/cache/policy/delta.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "mneme/core/error.h"
#include "tests/support/error_of.h"
#include "tests/support/golden.h"

namespace mneme {
namespace {

using testing::error_of;
using testing::GoldenCase;
using ::testing::HasSubstr;

void check_pages(const GoldenCase& golden) {
  const auto& c = golden.config();
  const int64_t heads = c["heads"], page = c["page"];
  const auto lengths = c["lengths"].get<std::vector<int64_t>>();
  const std::vector<float> logits = golden.floats("in.logits");
  const int64_t stride = golden.shape("in.logits")[2];
  const std::vector<int64_t> table = golden.integers("in.page_table"),
                             begins = golden.integers("in.page_indptr");
  const std::vector<float> want = golden.floats("out.page_scores");
  const int64_t want_stride = golden.shape("out.page_scores")[1];
  std::vector<int64_t> logical, physical, offsets = {0};
  for (size_t row = 0; row < lengths.size(); ++row) {
    std::vector<float> weights(static_cast<size_t>(heads * stride));
    for (int64_t h = 0; h < heads; ++h) {
      const auto at = static_cast<int64_t>(row) * heads + h;
      double sum = 0;
      for (int64_t j = 0; j < lengths[row]; ++j)
        sum += std::exp(double{logits[static_cast<size_t>(at * stride + j)]});
      for (int64_t j = 0; j < lengths[row]; ++j) {
        weights[static_cast<size_t>(h * stride + j)] = static_cast<float>(
            std::exp(double{logits[static_cast<size_t>(at * stride + j)]}) / sum);
      }
    }
    std::vector<float> scores;
    delta_page_scores({.queries = 1, .weights = weights.data(), .stride = stride, .sums = {}},
                      heads, lengths[row], page, scores);
    const auto first = want.begin() + static_cast<int64_t>(row) * want_stride;
    testing::expect_close(scores, {first, first + std::ssize(scores)}, golden.abs_tolerance(),
                          golden.rel_tolerance(), golden.name() + "/out.page_scores");
    std::vector<int32_t> chosen;
    delta_select(scores, c["subset_pages"], c["recent_pages"], c["position_bias"], chosen);
    for (const int32_t id : chosen) {
      logical.push_back(id);
      physical.push_back(table[static_cast<size_t>(begins[row] + id)]);
    }
    offsets.push_back(std::ssize(logical));
  }
  EXPECT_EQ(logical, golden.integers("out.selected_logical")) << golden.name();
  EXPECT_EQ(physical, golden.integers("out.selected_physical")) << golden.name();
  EXPECT_EQ(offsets, golden.integers("out.selected_offsets")) << golden.name();
}

TEST(GoldenDelta, PagesAndRoles) {
  const auto file = testing::GoldenFile::open("18-delta");
  if (!file) GTEST_SKIP() << "18-delta.safetensors";
  int checked = 0;
  for (const GoldenCase& golden : file->cases()) {
    checked += golden.kind() != "e2e";
    if (golden.kind() == "pages") check_pages(golden);
    if (golden.kind() != "roles") continue;
    const auto full = golden.config()["full_layers"].get<std::vector<int64_t>>();
    std::vector<int64_t> roles;
    for (const DeltaRole role : delta_roles(full, golden.config()["layers"]))
      roles.push_back(static_cast<int64_t>(role));
    EXPECT_EQ(roles, golden.integers("out.role")) << golden.name();
  }
  EXPECT_GT(checked, 0);
}

TEST(Delta, TheDefaultLayersAreThoseOfTheRule) {
  EXPECT_EQ(delta_default_layers(30), (std::vector<int64_t>{0, 1, 2, 15, 23}));
  EXPECT_EQ(delta_default_layers(4), (std::vector<int64_t>{0, 1, 2}));
  EXPECT_EQ(delta_default_layers(1), (std::vector<int64_t>{0}));
}

TEST(Delta, OlderPagesWinTiesAndNanLoses) {
  std::vector<float> scores = {0.5f, std::nanf(""), 0.5f, 0.5f, 0.1f, 0.0f};
  std::vector<int32_t> chosen;
  delta_select(scores, 3, 1, 0, chosen);
  EXPECT_EQ(chosen, (std::vector<int32_t>{0, 2, 5}));
  scores = {1, 1};
  delta_select(scores, 3, 1, 0, chosen);
  EXPECT_EQ(chosen, (std::vector<int32_t>{0, 1}));
}

TEST(Delta, RefusesWhatCannotBe) {
  const auto roles = [](const std::vector<int64_t>& full) {
    return error_of([&] { delta_roles(full, 4); });
  };
  EXPECT_THAT(roles({}), HasSubstr("layer 0 must be among"));
  EXPECT_THAT(roles({1, 2}), HasSubstr("layer 0 must be among"));
  EXPECT_THAT(roles({0, 4}), HasSubstr("below 4, got 4"));
  EXPECT_THAT(roles({0, 2, 1}), HasSubstr("got 1 after 2"));
  const MemoryShape shape = {
      .q_heads = 1, .kv_heads = 1, .k_dim = 8, .v_dim = 8, .context = 64, .windows = {0, 9, 0}};
  const auto refusal = [&](const DeltaOptions& options) {
    return error_of([&] { Delta(shape, options); });
  };
  EXPECT_THAT(refusal({.full_layers = {0, 1}}),
              HasSubstr("layer 1 does not exist or has a window"));
  EXPECT_THAT(refusal({.page = 0}), HasSubstr("got 0"));
  EXPECT_THAT(refusal({.pages = 0}), HasSubstr("at least one page"));
  EXPECT_THAT(refusal({.recent = -1}), HasSubstr("got -1"));
  EXPECT_EQ(Delta(shape, {.full_layers = {0}}).role(1), DeltaRole::kFull)
      << "its window is its own";
  EXPECT_EQ(Delta(shape, {.full_layers = {0}}).role(0), DeltaRole::kSelect);
  EXPECT_EQ(Delta(shape, {.full_layers = {0}}).role(2), DeltaRole::kSparse);
}

}  // namespace
}  // namespace mneme
