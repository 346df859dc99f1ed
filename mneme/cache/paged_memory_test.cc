#include "mneme/cache/paged_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "mneme/cache/memory_registry.h"
#include "mneme/core/error.h"
#include "tests/support/error_of.h"
#include "tests/support/memory_step.h"

namespace mneme {
namespace {

using testing::attend_rows;
using testing::error_of;
using ::testing::HasSubstr;
using testing::random_rows;
using testing::step;
using testing::StepRows;

constexpr int64_t kDim = 32;
const MemoryShape kShape = {.q_heads = 4,
                            .kv_heads = 2,
                            .k_dim = kDim,
                            .v_dim = kDim,
                            .context = 4096,
                            .windows = {0, 100, 0}};

std::unique_ptr<SequenceMemory> build(const char* spec) {
  return MemoryRegistry::builtin().build(spec, kShape);
}

class PagedMemoryTest : public ::testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(
    Specs, PagedMemoryTest,
    ::testing::Values("full", "full(dtype=f32)", "full(dtype=bf16)", "q8(group=32)", "q4(group=32)",
                      "q4(group=32,rotate=none,fit=edges)", "sliding(window=1,sink=0)",
                      "sliding(window=64,sink=0)", "sliding(window=65,sink=64)",
                      "sliding(window=130,sink=65)", "sliding(window=200,sink=4)+q4(group=32)"));

TEST_P(PagedMemoryTest, BytesArePredictedForEveryLengthAndChunk) {
  for (const int64_t chunk : {1, 50, 64, 333}) {
    const auto memory = build(GetParam());
    for (int64_t length = 0; length < (chunk == 1 ? 200 : 700); length += chunk) {
      ASSERT_EQ(memory->resident_bytes(), memory->predict_bytes(length))
          << "length " << length << ", chunk " << chunk;
      const StepPlan plan = memory->plan(chunk);
      EXPECT_EQ(plan.settled_bytes, memory->predict_bytes(length + chunk));
      step(*memory, chunk, 1);
      EXPECT_GE(memory->peak_bytes(), plan.resident_bytes);
      EXPECT_EQ(memory->logical_bytes(), (length + chunk) * 3 * 2 * 2 * kDim * 2);
    }
  }
}

TEST_P(PagedMemoryTest, ARefusedStepChangesNothing) {
  const auto memory = build(GetParam());
  step(*memory, 100, 1);
  const auto twin = memory->fork();
  memory->set_budget(memory->resident_bytes() + 1);
  const StepPlan plan = memory->plan(2000);
  EXPECT_THAT(plan.refusal, HasSubstr("more than the budget of"));
  EXPECT_THROW(memory->begin(plan), Error);
  memory->set_budget(0);
  EXPECT_EQ(memory->length(), 100);
  EXPECT_EQ(step(*memory, 30, 2), step(*twin, 30, 2));
}

TEST_P(PagedMemoryTest, AnAbortedStepChangesNothing) {
  const auto memory = build(GetParam());
  step(*memory, 100, 1);
  const auto twin = memory->fork();
  Rng rng(3);
  StepRows rows = random_rows(kShape, 70, rng);
  std::vector<float> answers;
  ThreadPool pool(2);
  memory->begin(memory->plan(70));
  attend_rows(*memory, 0, rows, pool, answers);
  rows.k[500] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(attend_rows(*memory, 1, rows, pool, answers), Error);
  memory->abort();
  EXPECT_EQ(memory->length(), 100);
  EXPECT_EQ(memory->resident_bytes(), twin->resident_bytes());
  EXPECT_EQ(step(*memory, 30, 2), step(*twin, 30, 2));
}

TEST_P(PagedMemoryTest, TrimIsExactOrRefused) {
  for (const int64_t length : {0, 1, 63, 64, 150, 299, 300}) {
    const auto memory = build(GetParam());
    step(*memory, 300, 1);
    const std::string reason = memory->cannot_trim_to(length);
    if (!reason.empty()) {
      EXPECT_THAT(error_of([&] { memory->trim(length); }), HasSubstr(reason));
      EXPECT_EQ(memory->length(), 300);
      continue;
    }
    memory->trim(length);
    EXPECT_EQ(memory->length(), length);
    // The twin has only ever seen the first `length` rows of the same step.
    const auto twin = build(GetParam());
    if (length > 0) step(*twin, length, 1, 300);
    EXPECT_EQ(step(*memory, 40, 5), step(*twin, 40, 5)) << length;
  }
}

TEST(PagedMemory, RowsOutsideEveryWindowAreFreed) {
  const auto full = build("full");
  step(*full, 2000, 1);
  const auto& paged = dynamic_cast<const PagedMemory&>(*full);
  EXPECT_EQ(paged.rows(0, 0).rows(), 2000);
  EXPECT_LE(paged.rows(1, 0).rows(), 100 + kPageRows);  // the model's own window
  const auto sliding = build("sliding(window=70,sink=4)");
  step(*sliding, 2000, 1);
  const auto& short_paged = dynamic_cast<const PagedMemory&>(*sliding);
  EXPECT_LE(short_paged.rows(0, 1).rows(), 70 + 2 * kPageRows);
  EXPECT_EQ(short_paged.rows(0, 1).position(0), 0);
  EXPECT_THAT(full->cannot_trim_to(500), HasSubstr("layer 1 does not hold position 401"));
}

TEST(PagedMemory, QuantisedRowsTakeTheBytesTheyPromise) {
  MemoryShape shape = kShape;
  shape.k_dim = shape.v_dim = 64;
  shape.windows = {0, 0};
  const auto& registry = MemoryRegistry::builtin();
  const auto f16 = static_cast<double>(registry.build("full", shape)->predict_bytes(4096));
  EXPECT_LE(static_cast<double>(registry.build("q8", shape)->predict_bytes(4096)) / f16, 0.55);
  EXPECT_LE(static_cast<double>(registry.build("q4", shape)->predict_bytes(4096)) / f16, 0.30);
}

TEST(PagedMemory, TurnedKeysGiveTheSameScoresAndSmallerErrors) {
  // Keys with one channel far larger than the others, as real ones have.
  const auto answers = [](const char* spec) {
    MemoryShape shape = kShape;
    shape.windows = {0};
    const auto memory = MemoryRegistry::builtin().build(spec, shape);
    Rng rng(9);
    StepRows rows = random_rows(shape, 200, rng);
    for (size_t i = 5; i < rows.k.size(); i += kDim) rows.k[i] += 30;
    std::vector<float> out;
    ThreadPool pool(1);
    memory->begin(memory->plan(200));
    attend_rows(*memory, 0, rows, pool, out);
    memory->commit();
    return out;
  };
  const std::vector<float> exact = answers("full(dtype=f32)");
  const auto error = [&](const char* spec) {
    const std::vector<float> got = answers(spec);
    double sum = 0;
    for (size_t i = 0; i < got.size(); ++i)
      sum += std::pow(static_cast<double>(got[i]) - exact[i], 2);
    return std::sqrt(sum / static_cast<double>(got.size()));
  };
  EXPECT_LT(error("q4(group=32,rotate=hadamard)"), 0.7 * error("q4(group=32,rotate=none)"));
  EXPECT_LT(error("q4(group=32)"), 0.95 * error("q4(group=32,fit=edges)"));
  EXPECT_LT(error("q8(group=32,rotate=hadamard)"), 0.02);
}

TEST(PagedMemory, StepsOutOfOrderAreRefused) {
  const auto memory = build("full");
  ThreadPool pool(1);
  EXPECT_THAT(error_of([&] { memory->attend({}, pool); }), HasSubstr("no step has begun"));
  EXPECT_THAT(error_of([&] { memory->plan(0); }), HasSubstr("at least one token, got 0"));
  const StepPlan plan = memory->plan(3);
  memory->begin(plan);
  EXPECT_THAT(error_of([&] { memory->begin(plan); }),
              HasSubstr("neither been committed nor aborted"));
  EXPECT_THAT(error_of([&] { memory->attend({.layer = 1}, pool); }),
              HasSubstr("expected layer 0, got 1"));
  EXPECT_THAT(error_of([&] { memory->attend({.layer = 0}, pool); }), HasSubstr("null rows"));
  EXPECT_THAT(error_of([&] { memory->commit(); }), HasSubstr("only 0 of 3 layers"));
  EXPECT_THAT(error_of([&] { (void)memory->fork(); }), HasSubstr("a step is under way"));
  EXPECT_THAT(error_of([&] { memory->trim(0); }), HasSubstr("a step is under way"));
  memory->abort();
  const StepPlan stale = memory->plan(3);
  step(*memory, 3, 1);
  EXPECT_THAT(error_of([&] { memory->begin(stale); }),
              HasSubstr("the plan is for position 0, the memory is at 3"));
}

TEST(PagedMemory, TheContextEndsWhereTheModelsDoes) {
  const auto memory = build("full");
  EXPECT_THAT(memory->plan(4100).refusal,
              HasSubstr("4 tokens longer than the model's context of 4096; "
                        "'sliding(window=2048,sink=0)' would hold it"));
  EXPECT_TRUE(memory->plan(4096).possible());
  EXPECT_TRUE(build("sliding")->plan(100000).possible());
  EXPECT_THAT(build("sliding")->plan(int64_t{1} << 40).refusal, HasSubstr("positions end at"));
}

}  // namespace
}  // namespace mneme
