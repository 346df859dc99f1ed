#include "mneme/cache/policy/cake.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "mneme/cache/memory_registry.h"
#include "mneme/cache/policy/policy_testing.h"
#include "mneme/core/error.h"
#include "mneme/kernels/select.h"
#include "tests/support/error_of.h"
#include "tests/support/golden.h"

namespace mneme {
namespace {

using testing::error_of;
using testing::GoldenCase;
using ::testing::HasSubstr;
using testing::WindowWeights;

// [heads, n, dim] of one batch row, from [B, heads, n, dim].
std::vector<float> batch_row(const GoldenCase& golden, const std::string& part, int64_t row) {
  const std::vector<float> all = golden.floats(part);
  const int64_t size = std::ssize(all) / golden.shape(part)[0];
  return {all.begin() + row * size, all.begin() + (row + 1) * size};
}

// [heads, n, dim] -> [n, heads, dim]
std::vector<float> queries_first(const std::vector<float>& q, int64_t heads, int64_t n,
                                 int64_t dim) {
  std::vector<float> turned(q.size());
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t t = 0; t < n; ++t)
      std::copy_n(q.begin() + (h * n + t) * dim, dim, turned.begin() + (t * heads + h) * dim);
  }
  return turned;
}

CakeOptions options_of(const nlohmann::json& config) {
  CakeOptions options;
  options.window = config.value("window", options.window);
  options.gamma = config.value("gamma", options.gamma);
  options.tau1 = config.value("tau1", options.tau1);
  options.tau2 = config.value("tau2", options.tau2);
  options.pool = config.value("pool_kernel", options.pool);
  return options;
}

void check_scores(const GoldenCase& golden) {
  const auto& c = golden.config();
  const int64_t heads = c["heads"], kv_heads = c["kv_heads"], seq = c["seq"], dim = c["head_dim"];
  const CakeOptions options = options_of(c);
  CakeScores batch;  // the official code sums over the batch
  std::vector<float> indicators;
  for (int64_t row = 0; row < c["batch"].get<int64_t>(); ++row) {
    const auto q = queries_first(batch_row(golden, "in.q_window", row), heads, options.window, dim);
    const WindowWeights weights(q, batch_row(golden, "in.k", row), options.window, heads, kv_heads,
                                seq, dim);
    const CakeScores scores = cake_scores(weights.seen, heads, kv_heads, seq, options);
    batch.entropy += scores.entropy;
    batch.variance += scores.variance;
    for (const auto& indicator : scores.indicator)
      indicators.insert(indicators.end(), indicator.begin(), indicator.end());
  }
  const auto expect = [&](double got, const std::string& part) {
    const double want = golden.doubles(part)[0];
    EXPECT_NEAR(got, want, golden.abs_tolerance() + golden.rel_tolerance() * std::abs(want))
        << golden.name() << " " << part;
  };
  expect(batch.entropy, "out.entropy");
  expect(batch.variance, "out.variance");
  expect(batch.preference(options), "out.preference");
  testing::expect_close(indicators, golden.floats("out.indicator"), golden.abs_tolerance(),
                        golden.rel_tolerance(), golden.name() + "/out.indicator");
}

void check_adjust(const GoldenCase& golden) {
  EXPECT_EQ(
      cake_adjust(golden.doubles("in.budgets"), golden.config()["total"], golden.config()["cap"]),
      golden.integers("out.budgets"))
      << golden.name();
}

// Cascading budgets and sets, stage by stage, from given preferences and indicators.
void check_cascade(const GoldenCase& golden) {
  const auto& c = golden.config();
  const int64_t layers = c["layers"], kv_heads = c["kv_heads"], seq = c["seq"],
                window = c["window"], total = c["total_budget"], n = seq - window;
  const std::vector<double> preferences = golden.doubles("in.preference");
  const std::vector<float> indicator = golden.floats("in.indicator");
  const std::vector<int64_t> stages = golden.integers("out.stage_budgets");
  std::vector<std::vector<int64_t>> kept(static_cast<size_t>(layers * kv_heads));
  SelectScratch scratch;
  for (int64_t m = 0; m < layers; ++m) {
    for (int64_t head = 0; head < kv_heads; ++head) {
      auto& rows = kept[static_cast<size_t>(m * kv_heads + head)];
      rows.resize(static_cast<size_t>(n));
      std::iota(rows.begin(), rows.end(), int64_t{0});
    }
    if (seq <= c["early_exit_len"].get<int64_t>()) continue;
    const auto budgets =
        cake_budgets(std::span(preferences).first(static_cast<size_t>(m + 1)), total, n);
    for (int64_t layer = 0; layer <= m; ++layer) {
      EXPECT_EQ(budgets[static_cast<size_t>(layer)],
                stages[static_cast<size_t>(m * layers + layer)])
          << golden.name() << " stage " << m << " layer " << layer;
      for (int64_t head = 0; head < kv_heads; ++head) {
        auto& rows = kept[static_cast<size_t>(layer * kv_heads + head)];
        std::vector<float> scores;
        for (const int64_t row : rows)
          scores.push_back(indicator[static_cast<size_t>((layer * kv_heads + head) * n + row)]);
        std::vector<int32_t> chosen(rows.size());
        chosen.resize(static_cast<size_t>(select_top_k(scores, budgets[static_cast<size_t>(layer)],
                                                       SelectOrder::kIndex, chosen, scratch)));
        std::vector<int64_t> left;
        for (const int32_t i : chosen) left.push_back(rows[static_cast<size_t>(i)]);
        rows = left;
      }
    }
  }
  std::vector<int64_t> flat, offsets = {0};
  for (auto& rows : kept) {
    flat.insert(flat.end(), rows.begin(), rows.end());
    for (int64_t row = n; row < seq; ++row) flat.push_back(row);
    offsets.push_back(std::ssize(flat));
  }
  EXPECT_EQ(flat, golden.integers("out.kept_flat")) << golden.name();
  EXPECT_EQ(offsets, golden.integers("out.kept_offsets")) << golden.name();
  EXPECT_EQ(cake_budgets(preferences, total, n), golden.integers("out.one_shot_budgets"))
      << golden.name();
}

void check_decode(const GoldenCase& golden) {
  const auto& c = golden.config();
  const int64_t heads = c["heads"], kv_heads = c["kv_heads"], stored = c["stored"],
                budget = c["hh_size"], window = c["window"], dim = c["head_dim"];
  std::vector<int64_t> got;
  for (int64_t row = 0; row < c["batch"].get<int64_t>(); ++row) {
    const WindowWeights weights(batch_row(golden, "in.q", row), batch_row(golden, "in.k", row), 1,
                                heads, kv_heads, stored, dim);
    for (int64_t head = 0; head < kv_heads; ++head) {
      std::vector<int64_t> order(static_cast<size_t>(stored));
      std::iota(order.begin(), order.end(), int64_t{0});
      if (stored > budget + window) {
        order.resize(static_cast<size_t>(stored - window));
        std::vector<double> mean;
        std::vector<float> scores;
        cake_decode_scores(weights.seen, heads, kv_heads, head, order, c["pool_kernel"], mean,
                           scores);
        std::vector<int32_t> chosen(static_cast<size_t>(std::min(budget, stored - window)));
        SelectScratch scratch;
        select_top_k(scores, budget, SelectOrder::kIndex, chosen, scratch);
        order.assign(chosen.begin(), chosen.end());
        for (int64_t slot = stored - window; slot < stored; ++slot) order.push_back(slot);
      }
      got.insert(got.end(), order.begin(), order.end());
    }
  }
  EXPECT_EQ(got, golden.integers("out.kept_slots_sorted")) << golden.name();
}

// Whole runs on a model are in runtime/policy_golden_test.cc.
TEST(GoldenCake, ScoresBudgetsAndSets) {
  const auto file = testing::GoldenFile::open("30-cake");
  if (!file) GTEST_SKIP() << "30-cake.safetensors";
  int checked = 0;
  for (const GoldenCase& golden : file->cases()) {
    checked += golden.kind() != "e2e";
    if (golden.has("out.indicator")) check_scores(golden);
    if (golden.kind() == "adjust") check_adjust(golden);
    if (golden.kind() == "cascade") check_cascade(golden);
    if (golden.kind() == "decode") check_decode(golden);
  }
  EXPECT_GT(checked, 0);
}

TEST(Cake, EqualBudgetsWherePreferencesSayNothing) {
  EXPECT_EQ(cake_budgets(std::vector<double>{0, 0, 0}, 10, 100), (std::vector<int64_t>{4, 3, 3}));
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(cake_budgets(std::vector<double>{infinity, 1}, 10, 100), (std::vector<int64_t>{5, 5}));
}

TEST(Cake, RefusesWhatCannotBe) {
  const MemoryShape shape = {
      .q_heads = 4, .kv_heads = 2, .k_dim = 64, .v_dim = 64, .context = 1024, .windows = {0, 0}};
  const auto refusal = [&](const std::string& spec) {
    return error_of([&] { MemoryRegistry::builtin().build(spec, shape); });
  };
  EXPECT_THAT(refusal("cake(window=1)"), HasSubstr("'window' must be an integer from 2"));
  EXPECT_THAT(refusal("cake(rows=32)"),
              HasSubstr("cake: 32 rows cannot hold the 32 that are always kept"));
  EXPECT_THAT(refusal("cake(budget=0)"), HasSubstr("one of the two; got 0 and 0"));
  EXPECT_THAT(refusal("cake(budget=1.5)"), HasSubstr("'budget' must be a number from 0 to 1"));
  EXPECT_THAT(refusal("cake(tau1=0)"), HasSubstr("'tau1'"));
  EXPECT_THAT(refusal("cake(pool=4)"), HasSubstr("odd"));
  const auto memory = MemoryRegistry::builtin().build("cake(budget=0.1)", shape);
  const StepPlan plan = memory->plan(300);
  EXPECT_FALSE(plan.possible());
  EXPECT_THAT(plan.refusal, HasSubstr("cake: a budget of 0.1 is 30 of 300 rows, and window and "
                                      "sink alone take 32; the least for this text is 0.11"));
  EXPECT_TRUE(memory->plan(1).possible());
  EXPECT_TRUE(memory->plan(400).possible());
  EXPECT_TRUE(memory->plan(100, 300).possible()) << "the text is 400 tokens long";
}

TEST(Cake, AVarianceOfOneQueryIsRefused) {
  SeenWeights seen{.queries = 1};
  EXPECT_THROW(cake_scores(seen, 1, 1, 10, {}), Error);
}

}  // namespace
}  // namespace mneme
