#include "mneme/cache/attention_history.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "mneme/core/rng.h"
#include "mneme/kernels/row_list_attention.h"
#include "mneme/simulate/tier_schedule.h"
#include "tests/support/golden.h"

namespace mneme {
namespace {

using testing::GoldenCase;

void check_window(const GoldenCase& golden) {
  const auto& c = golden.config();
  const int64_t n = c["n"], heads = c["heads"], dim = c["head_dim"];
  ASSERT_EQ(half_window(n, c["caching_ratio"]), c["k"].get<int64_t>());
  const std::vector<float> given = golden.floats("in.history");
  const int64_t rows = golden.shape("in.history")[0];
  AttentionHistory history(c["caching_ratio"]);
  for (int64_t row = 0; row < rows; ++row) {
    std::vector<float> weights(static_cast<size_t>(n - 1));
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t j = 0; j < n - 1; ++j)
        weights[static_cast<size_t>(j)] +=
            given[static_cast<size_t>((row * heads + h) * (n - 1) + j)];
    history.push_dense(weights);
  }
  std::vector<int32_t> chosen;
  history.choose(n, chosen);
  testing::expect_close({history.sums().begin(), history.sums().end()}, golden.floats("out.score"),
                        golden.abs_tolerance(), golden.rel_tolerance(), golden.name() + "/score");
  const int64_t k = c["k"];
  if (chosen.empty()) {
    chosen.resize(static_cast<size_t>(n));
    std::iota(chosen.begin(), chosen.end(), 0);
  } else {
    for (int64_t j = n - k; j < n; ++j) chosen.push_back(static_cast<int32_t>(j));
  }
  EXPECT_EQ(std::vector<int64_t>(chosen.begin(), chosen.end()), golden.integers("out.selected"));

  // Step 4, over the rows that were chosen.
  const RowListAttention attention{.q_heads = heads,
                                   .kv_heads = heads,
                                   .k_dim = dim,
                                   .v_dim = dim,
                                   .scale = 1 / std::sqrt(static_cast<float>(dim))};
  const std::vector<float> keys = golden.floats("in.k"), values = golden.floats("in.v");
  const int64_t stride = attention.token_bytes() + RowListAttention::kOverhang;
  std::vector<std::byte> bytes(static_cast<size_t>(n * stride));
  std::vector<const std::byte*> list;
  for (const int32_t token : chosen) {
    std::vector<float> k_row, v_row;
    for (int64_t h = 0; h < heads; ++h) {
      const auto at = (h * n + token) * dim;
      k_row.insert(k_row.end(), keys.begin() + at, keys.begin() + at + dim);
      v_row.insert(v_row.end(), values.begin() + at, values.begin() + at + dim);
    }
    attention.write_token(k_row.data(), v_row.data(), bytes.data() + token * stride);
    list.push_back(bytes.data() + token * stride);
  }
  std::vector<float> out(static_cast<size_t>(heads * dim)), weights(list.size());
  RowListScratch scratch;
  ThreadPool pool(2);
  row_list_attention(attention, list, golden.floats("in.q").data(), out.data(), weights.data(),
                     scratch, pool);
  testing::expect_close(out, golden.floats("out.out"), golden.abs_tolerance(),
                        golden.rel_tolerance(), golden.name() + "/out");
  std::vector<float> summed(list.size());
  const std::vector<float> want = golden.floats("out.weights");
  for (size_t i = 0; i < want.size(); ++i) summed[i % list.size()] += want[i];
  testing::expect_close(weights, summed, golden.abs_tolerance() * static_cast<double>(heads),
                        golden.rel_tolerance(), golden.name() + "/weights");
}

TEST(GoldenAlisa, SparseWindows) {
  const auto file = testing::GoldenFile::open("12-alisa");
  if (!file) GTEST_SKIP() << "12-alisa.safetensors";
  int checked = 0;
  for (const GoldenCase& golden : file->cases()) {
    if (golden.kind() != "swa") continue;
    SCOPED_TRACE(golden.name());
    ++checked;
    check_window(golden);
  }
  EXPECT_GT(checked, 0);
}

// A long run against the definition: all queries kept, the last k summed in float64.
TEST(AttentionHistory, SumsAreThoseOfTheLastQueriesHoweverLongItRuns) {
  Rng rng(11);
  for (const double ratio : {0.1, 0.4, 1.0}) {
    AttentionHistory history(ratio);
    std::vector<std::vector<double>> all;
    std::vector<int32_t> chosen;
    for (int64_t n = 1; n <= 900; ++n) {
      if (n > 1) {
        history.choose(n, chosen);
        const int64_t k = half_window(n, ratio);
        std::vector<double> want(static_cast<size_t>(n - 1));
        for (int64_t i = std::max<int64_t>(0, std::ssize(all) - k); i < std::ssize(all); ++i)
          for (size_t j = 0; j < all[static_cast<size_t>(i)].size(); ++j)
            want[j] += all[static_cast<size_t>(i)][j];
        // Between two fresh sums a token's sum, k at most, is rounded twice a step.
        const double drift = 2 * 256 * 0x1p-24 * static_cast<double>(k);
        for (size_t j = 0; j < want.size(); ++j)
          ASSERT_NEAR(history.sums()[j], want[j], drift) << n << " " << j;
        ASSERT_EQ(chosen.empty(), 2 * k >= n);
        if (!chosen.empty()) {
          ASSERT_EQ(std::ssize(chosen), k);
          ASSERT_LT(chosen.back(), n - k);
        }
      }
      ASSERT_LE(history.queries(), half_window(n, ratio) + 1);
      // This query, over what it read.
      std::vector<int32_t> read = chosen;
      if (chosen.empty()) {
        read.resize(static_cast<size_t>(n));
        std::iota(read.begin(), read.end(), 0);
      } else {
        for (int64_t j = n - half_window(n, ratio); j < n; ++j)
          read.push_back(static_cast<int32_t>(j));
      }
      std::vector<float> weights(read.size());
      for (float& w : weights) w = static_cast<float>(rng.uniform());
      all.emplace_back(static_cast<size_t>(n), 0.0);
      for (size_t i = 0; i < read.size(); ++i)
        all.back()[static_cast<size_t>(read[i])] = weights[i];
      if (chosen.empty()) {
        history.push_dense(weights);
      } else {
        history.push_sparse(read, weights);
      }
    }
  }
}

TEST(AttentionHistory, OlderTokensWinTies) {
  AttentionHistory history(0.5);
  history.push_dense(std::vector<float>{0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f});
  std::vector<int32_t> chosen;
  history.choose(8, chosen);
  EXPECT_EQ(chosen, (std::vector<int32_t>{0, 1}));
}

}  // namespace
}  // namespace mneme
