// The kernel cases of papers/33: table GELU, single-pass softmax, staggered attention. Cases of
// other kinds (gates, layers, models) are printed by name and left to what computes them.
#include <gtest/gtest.h>

#include <cmath>
#include <iostream>

#include "mneme/core/staggered_schedule.h"
#include "mneme/kernels/gelu_table.h"
#include "mneme/kernels/reordered_attention.h"
#include "mneme/kernels/single_pass_softmax.h"
#include "tests/support/golden.h"

namespace mneme {
namespace {

using testing::GoldenCase;

void expect_equal_to_case(const GoldenCase& golden, const std::string& part,
                          const std::vector<float>& got) {
  testing::expect_close(got, golden.floats(part), golden.abs_tolerance(), golden.rel_tolerance(),
                        golden.name() + "/" + part);
}

void check_gelu(const GoldenCase& golden) {
  ASSERT_EQ(golden.config().value("entries", int64_t{kGeluTableEntries}), kGeluTableEntries);
  const std::vector<float> x = golden.floats("in.x");
  std::vector<float> y(x.size());
  gelu_table(x.data(), static_cast<int64_t>(x.size()), y.data());
  expect_equal_to_case(golden, "out.y_lut", y);
  const auto entries = gelu_table_entries();
  EXPECT_EQ(std::vector<float>(entries.begin(), entries.end()), golden.floats("out.table"));
  const std::vector<float> exact = golden.floats("out.y_exact");
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(y[i], exact[i], 1e-4) << x[i];
}

void check_softmax(const GoldenCase& golden) {
  const std::vector<float> scores = golden.floats("in.scores");
  const auto rows = static_cast<size_t>(golden.shape("in.scores").front());
  const auto width = static_cast<size_t>(golden.shape("in.scores").back());
  std::vector<float> sums(rows, 0.0f), biases(rows, SoftmaxState().bias), column(rows);
  std::vector<float> sum_after(scores.size()), bias_after(scores.size()), weights(scores.size());
  for (size_t i = 0; i < width; ++i) {
    for (size_t r = 0; r < rows; ++r) column[r] = scores[r * width + i];
    single_pass_softmax_step(column.data(), static_cast<int64_t>(rows), sums.data(), biases.data());
    for (size_t r = 0; r < rows; ++r) {
      sum_after[r * width + i] = sums[r];
      bias_after[r * width + i] = biases[r];
    }
  }
  for (size_t r = 0; r < rows; ++r) {
    const float* row = scores.data() + r * width;
    const auto n = static_cast<int64_t>(width);
    const SoftmaxState whole = single_pass_softmax_row(row, n);
    EXPECT_EQ(whole.bias, biases[r]);
    single_pass_softmax_weights(whole, row, n, weights.data() + r * width);
  }
  expect_equal_to_case(golden, "out.sum_after", sum_after);
  expect_equal_to_case(golden, "out.bias_after", bias_after);
  expect_equal_to_case(golden, "out.prob", weights);
}

void check_schedule(const GoldenCase& golden, const StaggeredSchedule& schedule) {
  ASSERT_EQ(schedule.steps(), golden.integers("out.steps").at(0));
  std::vector<int64_t> walked;
  int64_t loads = 0;
  for (int64_t step = 0; step < schedule.steps(); ++step) {
    walked.push_back(schedule.key(step));
    for (int64_t slot = 0; slot < schedule.slots(); ++slot) {
      walked.push_back(schedule.query(step, slot));
      loads += schedule.begins(step, slot);
    }
  }
  EXPECT_EQ(walked, golden.integers("out.schedule"));
  EXPECT_EQ(loads, golden.integers("out.query_loads").at(0));
}

void check_attention(const GoldenCase& golden) {
  const auto& config = golden.config();
  const ReorderedAttention attention{.rows = golden.shape("in.q").front(),
                                     .heads = 1,
                                     .k_dim = golden.shape("in.k").back(),
                                     .v_dim = golden.shape("in.v").back(),
                                     .scale = config["scale"],
                                     .parallel = config["parallel"]};
  check_schedule(golden, StaggeredSchedule(attention.rows, attention.parallel));
  const auto n = static_cast<size_t>(attention.rows);
  std::vector<float> scores(n * n), sums(n), biases(n), o(n * static_cast<size_t>(attention.v_dim));
  AttentionScratch scratch;
  ThreadPool pool(2);
  reordered_attention(attention, golden.floats("in.q").data(), golden.floats("in.k").data(),
                      golden.floats("in.v").data(), o.data(),
                      {scores.data(), sums.data(), biases.data()}, scratch, pool);
  expect_equal_to_case(golden, "out.scores", scores);
  expect_equal_to_case(golden, "out.softmax_sum", sums);
  expect_equal_to_case(golden, "out.softmax_bias", biases);
  expect_equal_to_case(golden, "out.o", o);
}

TEST(GoldenEdgeMoe, KernelCases) {
  const auto file = testing::GoldenFile::open("33-edge-moe");
  if (!file) GTEST_SKIP() << "33-edge-moe.safetensors";
  int checked = 0;
  for (const GoldenCase& golden : file->cases()) {
    SCOPED_TRACE(golden.name());
    const std::string kind = golden.kind();
    if (kind == "gelu") {
      check_gelu(golden);
    } else if (kind == "single") {
      check_softmax(golden);
    } else if (kind == "attention") {
      check_attention(golden);
    } else {
      std::cout << "not a kernel case: " << golden.name() << "\n";
      continue;
    }
    ++checked;
  }
  EXPECT_GT(checked, 0);
}

}  // namespace
}  // namespace mneme
