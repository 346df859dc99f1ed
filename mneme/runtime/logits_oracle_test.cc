// Whole models against an independent float32 evaluation, where one is at hand: MNEME_MODEL names
// the GGUF file, MNEME_LOGITS_ORACLE what tools/oracle/logits_oracle.py made of it. Prints the
// largest difference.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iostream>

#include "mneme/runtime/engine.h"
#include "mneme/runtime/sampler.h"
#include "mneme/runtime/session.h"
#include "tests/support/golden.h"

namespace mneme {
namespace {

void compare(Engine& engine, const testing::GoldenFile& file) {
  for (const testing::GoldenCase& prompt : file.cases()) {
    const std::vector<int64_t> ids = prompt.integers("in.input_ids");
    const std::vector<float> want = prompt.floats("out.logits");
    Session session(engine.model(), engine.pool(), engine.make_memory("full(dtype=f32)"));
    std::vector<float> got;
    session.append_visiting(std::vector<int32_t>(ids.begin(), ids.end()), 512,
                            [&](int64_t, std::span<const float> row) {
                              got.insert(got.end(), row.begin(), row.end());
                            });
    ASSERT_EQ(got.size(), want.size());
    double largest = 0;
    for (size_t i = 0; i < got.size(); ++i)
      largest = std::max(largest, std::abs(static_cast<double>(got[i]) - want[i]));
    std::cout << prompt.name() << ", weights " << engine.model().linear_form()
              << ": largest difference of a logit " << largest << "\n";
    EXPECT_LE(largest, prompt.abs_tolerance());
    std::vector<int64_t> greedy;
    while (greedy.size() < prompt.integers("out.greedy").size()) {
      const int32_t token = argmax(session.logits());
      greedy.push_back(token);
      session.append({&token, 1});
    }
    EXPECT_EQ(greedy, prompt.integers("out.greedy")) << prompt.name();
  }
}

TEST(LogitsOracle, LogitsAndGreedyTokensAgree) {
  const char* model = std::getenv("MNEME_MODEL");
  const char* oracle = std::getenv("MNEME_LOGITS_ORACLE");
  if (model == nullptr || oracle == nullptr)
    GTEST_SKIP() << "MNEME_MODEL and MNEME_LOGITS_ORACLE are not set";
  const auto engine = Engine::open(model);
  const auto file = testing::GoldenFile::open_path(oracle);
  compare(*engine, *file);
  engine->model().use_float_products();
  compare(*engine, *file);
}

}  // namespace
}  // namespace mneme
