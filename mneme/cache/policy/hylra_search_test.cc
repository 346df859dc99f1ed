#include "mneme/cache/policy/hylra_search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "mneme/core/error.h"
#include "mneme/core/rng.h"
#include "tests/support/error_of.h"
#include "tests/support/golden.h"

namespace mneme {
namespace {

using testing::error_of;
using testing::GoldenCase;
using ::testing::HasSubstr;

void check_profile(const GoldenCase& golden) {
  const auto& c = golden.config();
  const int64_t layers = c["layers"], kv_heads = c["kv_heads"], group = c["group"], seq = c["seq"],
                dim = c["head_dim"], steps = c["steps"];
  const std::vector<float> q = golden.floats("in.q"), k = golden.floats("in.k");
  HylraProfile profile(layers, kv_heads,
                       {.block = c["chunk"],
                        .sink = c["sink"],
                        .recent = c["recent"],
                        .preserved = c["preserved_tokens"],
                        .energy = c["energy"],
                        .sparsity = c["sparsity"]});
  for (int64_t step = 0; step < steps; ++step) {
    const int64_t rows = seq - steps + 1 + step;
    std::vector<std::vector<HylraWeights>> weights(static_cast<size_t>(layers));
    for (int64_t layer = 0; layer < layers; ++layer) {
      for (int64_t head = 0; head < kv_heads; ++head) {
        HylraWeights sum(static_cast<size_t>(rows));
        for (int64_t g = 0; g < group; ++g) {
          std::vector<double> weight(sum.size());
          double total = 0;
          for (int64_t row = 0; row < rows; ++row) {
            double dot = 0;
            for (int64_t i = 0; i < dim; ++i) {
              const int64_t at =
                  (((step * layers + layer) * kv_heads + head) * group + g) * dim + i;
              dot += double{q[static_cast<size_t>(at)]} *
                     k[static_cast<size_t>(((layer * kv_heads + head) * seq + row) * dim + i)];
            }
            total += weight[static_cast<size_t>(row)] =
                std::exp(dot / std::sqrt(static_cast<double>(dim)));
          }
          for (size_t row = 0; row < sum.size(); ++row) sum[row] += weight[row] / total;
        }
        weights[static_cast<size_t>(layer)].push_back(std::move(sum));
      }
    }
    profile.add(weights);
  }
  const auto floats = [](const std::vector<double>& values) {
    return std::vector<float>(values.begin(), values.end());
  };
  const auto expect = [&](const std::vector<double>& got, const std::string& part) {
    testing::expect_close(floats(got), golden.floats(part), golden.abs_tolerance(),
                          golden.rel_tolerance(), golden.name() + "/" + part);
  };
  std::vector<double> ratios, overlaps;
  for (const auto& head : profile.ratios())
    for (const auto& step : head) ratios.insert(ratios.end(), step.begin(), step.end());
  for (int64_t head = 0; head < kv_heads; ++head) {
    const auto overlap = profile.overlap(head);
    overlaps.insert(overlaps.end(), overlap.begin(), overlap.end());
  }
  expect(ratios, "out.hash_ratio");
  expect(overlaps, "out.overlap_per_head");
  expect(profile.least_overlap(), "out.overlap_min");
  expect(profile.sensitivity(), "out.layer_mean");
  std::vector<int64_t> rollback = golden.integers("out.rollback");
  std::ranges::sort(rollback);
  EXPECT_EQ(profile.sensitive_layers(), rollback) << golden.name();
}

void check_path(const GoldenCase& golden) {
  const auto& c = golden.config();
  const int64_t layers = c["layers"];
  const std::vector<double> overlap = golden.doubles("in.overlap");
  if (c.contains("theta")) {
    const auto plan = hylra_plan_by_threshold(overlap, layers, c["theta"],
                                              c["sensitive"].get<std::vector<int64_t>>());
    EXPECT_EQ(plan, golden.integers("out.config")) << golden.name();
    EXPECT_EQ(std::ranges::count(plan, -1), golden.integers("out.full_layers")[0]);
    double sum = 0;
    for (size_t j = 0; j < plan.size(); ++j)
      if (plan[j] >= 0) sum += overlap[static_cast<size_t>(plan[j] * layers) + j];
    EXPECT_NEAR(sum, golden.doubles("out.overlap_sum")[0], 1e-9) << golden.name();
  } else {
    const auto best = hylra_plan_by_budget(overlap, layers, c["max_changes"]);
    EXPECT_EQ(best.plan, golden.integers("out.config")) << golden.name();
    EXPECT_NEAR(best.least, golden.doubles("out.best_min")[0], 1e-9) << golden.name();
    EXPECT_NEAR(best.sum, golden.doubles("out.best_sum")[0], 1e-9) << golden.name();
  }
}

TEST(GoldenHylra, ProfilesAndPlans) {
  const auto file = testing::GoldenFile::open("14-hylra");
  if (!file) GTEST_SKIP() << "14-hylra.safetensors";
  int checked = 0;
  for (const GoldenCase& golden : file->cases()) {
    checked += golden.kind() == "profile" || golden.kind() == "path";
    if (golden.kind() == "profile") check_profile(golden);
    if (golden.kind() == "path") check_path(golden);
  }
  EXPECT_GT(checked, 0);
}

// Every plan there is, by counting: what the dynamic programmes must not miss.
TEST(HylraPlans, AreTheBestOfAllThereAre) {
  Rng rng(17);
  for (int round = 0; round < 60; ++round) {
    const int64_t layers = 2 + rng.below(6);
    std::vector<double> overlap(static_cast<size_t>(layers * layers));
    for (int64_t i = 0; i < layers; ++i)
      for (int64_t j = i; j < layers; ++j)
        overlap[static_cast<size_t>(i * layers + j)] = i == j ? 1 : rng.uniform();
    const std::vector<int64_t> sensitive = {0, rng.below(layers)};
    const double theta = 0.3 + 0.5 * rng.uniform();
    const int64_t changes = rng.below(layers);
    int64_t fewest = layers + 1;
    double most = -1, best_least = -1;
    for (int64_t choice = 0; choice < int64_t{1} << (layers - 1); ++choice) {
      int64_t source = 0, full = 1;
      double sum = 0, least = 1;
      bool allowed = true;
      for (int64_t j = 1; j < layers; ++j) {
        if ((choice >> (j - 1) & 1) != 0) {
          source = j;
          ++full;
          continue;
        }
        const double worth = overlap[static_cast<size_t>(source * layers + j)];
        allowed &= worth >= theta && j != sensitive[1];
        sum += worth;
        least = std::min(least, worth);
      }
      if (allowed && (full < fewest || (full == fewest && sum > most))) {
        fewest = full;
        most = sum;
      }
      if (full - 1 <= changes) best_least = std::max(best_least, least);
    }
    const auto plan = hylra_plan_by_threshold(overlap, layers, theta, sensitive);
    EXPECT_EQ(std::ranges::count(plan, -1), fewest);
    double sum = 0;
    for (size_t j = 0; j < plan.size(); ++j)
      if (plan[j] >= 0) sum += overlap[static_cast<size_t>(plan[j] * layers) + j];
    EXPECT_NEAR(sum, most, 1e-12);
    check_hylra_plan(plan, layers);
    const auto budget = hylra_plan_by_budget(overlap, layers, changes);
    EXPECT_NEAR(budget.least, best_least, 1e-12);
    EXPECT_LE(std::ranges::count(budget.plan, -1) - 1, changes);
    check_hylra_plan(budget.plan, layers);
  }
}

TEST(HylraPlans, RefuseWhatCannotBe) {
  const std::vector<double> overlap(9, 1.0);
  EXPECT_THAT(error_of([&] { hylra_plan_by_threshold(overlap, 3, 0, {}); }), HasSubstr("theta"));
  EXPECT_THAT(error_of([&] { hylra_plan_by_threshold(overlap, 4, 0.5, {}); }),
              HasSubstr("4 x 4 layers, got 9"));
  EXPECT_THAT(error_of([&] { hylra_plan_by_budget(overlap, 3, -1); }), HasSubstr("got -1"));
  const auto refusal = [](const std::vector<int64_t>& plan) {
    return error_of([&] { check_hylra_plan(plan, 3); });
  };
  EXPECT_THAT(refusal({0, -1, -1}), HasSubstr("layer 0 cannot read what layer 0 chose"));
  EXPECT_THAT(refusal({-1, 0, 1}), HasSubstr("layer 2 cannot read what layer 1 chose"));
  EXPECT_THAT(refusal({-1, 2, -1}), HasSubstr("layer 1"));
  EXPECT_THAT(refusal({-1, -1}), HasSubstr("for 2 layers, the model has 3"));
}

}  // namespace
}  // namespace mneme
