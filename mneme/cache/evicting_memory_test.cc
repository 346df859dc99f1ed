// What holds for every memory that lets rows go when a text ends, whatever its score: rows are drawn
// by position, so that the same text can be read in one step, in parts or twice.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "mneme/cache/memory_file.h"
#include "mneme/cache/memory_registry.h"
#include "mneme/cache/paged_memory.h"
#include "mneme/core/error.h"
#include "mneme/core/rng.h"
#include "tests/support/error_of.h"
#include "tests/support/memory_step.h"
#include "tests/support/temporary_folder.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::StepRows;

// Layer 1 has a window of the model's own.
const MemoryShape kShape = {.q_heads = 6,
                            .kv_heads = 2,
                            .k_dim = 64,
                            .v_dim = 64,
                            .context = 4096,
                            .windows = {0, 50, 0, 0},
                            .model_fingerprint = "test"};

std::unique_ptr<SequenceMemory> build(const std::string& spec) {
  return MemoryRegistry::builtin().build(spec, kShape);
}

const PagedMemory& paged(const SequenceMemory& memory) {
  return dynamic_cast<const PagedMemory&>(memory);
}

StepRows rows_at(int64_t layer, int64_t first, int64_t tokens) {
  return testing::rows_at(kShape, layer, first, tokens);
}

// The next `tokens` positions in one step; the answers of every layer.
std::vector<float> read(SequenceMemory& memory, int64_t tokens, int64_t following = 0) {
  ThreadPool pool(2);
  std::vector<float> answers;
  const int64_t first = memory.length();
  memory.begin(memory.plan(tokens, following));
  for (int64_t layer = 0; layer < kShape.layers(); ++layer)
    testing::attend_rows(memory, layer, rows_at(layer, first, tokens), pool, answers);
  memory.commit();
  return answers;
}

using Held = std::vector<std::vector<int32_t>>;  // [layers * kv_heads] positions
Held positions(const SequenceMemory& memory) {
  Held held;
  for (int64_t layer = 0; layer < kShape.layers(); ++layer) {
    for (int64_t head = 0; head < kShape.kv_heads; ++head) {
      const PagedRows& rows = paged(memory).rows(layer, head);
      held.emplace_back();
      for (int64_t row = 0; row < rows.rows(); ++row) held.back().push_back(rows.position(row));
    }
  }
  return held;
}

class EvictingMemory : public ::testing::TestWithParam<const char*> {
 protected:
  std::string spec(const std::string& budget) const {
    std::string spec = GetParam();
    return spec.insert(spec.find('(') + 1, spec.ends_with("()") ? budget : budget + ",");
  }
};

INSTANTIATE_TEST_SUITE_P(Policies, EvictingMemory,
                         ::testing::Values("cake(window=8)", "cake(window=8,cascade=off)",
                                           "cake(window=8,order=score)", "snapkv(window=8)",
                                           "pyramidkv(window=8)", "h2o()", "tova()", "knorm()",
                                           "streaming(sink=4)", "random(seed=3)"));

TEST_P(EvictingMemory, ABudgetOfEverythingIsFull) {
  const auto memory = build(spec("budget=1") + "+full(dtype=f32)");
  const auto full = build("full(dtype=f32)");
  for (const int64_t tokens : {200, 1, 1, 30})
    EXPECT_EQ(read(*memory, tokens), read(*full, tokens));
}

TEST_P(EvictingMemory, KeepsItsBudgetAndNotARowMore) {
  const auto memory = build(spec("budget=0.25"));
  read(*memory, 400);
  int64_t total = 0;
  for (const int64_t layer : {0, 2, 3}) {
    EXPECT_EQ(paged(*memory).rows(layer, 0).rows(), paged(*memory).rows(layer, 1).rows());
    total += paged(*memory).rows(layer, 0).rows();
    for (const int64_t head : {0, 1}) {
      const PagedRows& rows = paged(*memory).rows(layer, head);
      EXPECT_LT(rows.position(rows.rows() - 1), 400);
    }
  }
  EXPECT_EQ(total, 3 * 100);
  EXPECT_EQ(memory->length(), 400);
  EXPECT_LE(memory->resident_bytes(), memory->peak_bytes());
}

TEST_P(EvictingMemory, APartedTextLeavesTheRowsOfAWholeOne) {
  const auto whole = build(spec("budget=0.2"));
  read(*whole, 300);
  for (const std::vector<int64_t>& parts : {std::vector<int64_t>{150, 150},
                                            {296, 4},
                                            {1, 299},
                                            {100, 5, 195},
                                            {299, 1},
                                            std::vector<int64_t>(300, 1)}) {
    const auto parted = build(spec("budget=0.2"));
    int64_t left = 300;
    for (const int64_t tokens : parts) {
      left -= tokens;
      read(*parted, tokens, left);
    }
    EXPECT_EQ(positions(*parted), positions(*whole)) << parts.size() << " parts";
  }
}

// Attention over the rows that are held, in float64, for the query of a single token.
std::vector<double> dense_answers(const SequenceMemory& memory, int64_t layer,
                                  const StepRows& step) {
  const int64_t ratio = kShape.q_heads / kShape.kv_heads, dim = 64;
  std::vector<double> out(static_cast<size_t>(kShape.q_heads * dim));
  for (int64_t h = 0; h < kShape.q_heads; ++h) {
    const PagedRows& rows = paged(memory).rows(layer, h / ratio);
    std::vector<double> scores;
    std::vector<std::vector<float>> values;
    for (int64_t row = 0; row < rows.rows(); ++row) {
      if (layer == 1 && rows.position(row) <= memory.length() - 50) continue;
      std::vector<float> k(64), v(64);
      rows.read(row, k.data(), v.data());
      values.push_back(v);
      scores.push_back(0);
      for (int64_t i = 0; i < dim; ++i)
        scores.back() +=
            double{step.q[static_cast<size_t>(h * dim + i)]} * k[static_cast<size_t>(i)];
    }
    const float* k = step.k.data() + h / ratio * dim;
    const float* v = step.v.data() + h / ratio * dim;
    values.emplace_back(v, v + dim);
    scores.push_back(0);
    for (int64_t i = 0; i < dim; ++i)
      scores.back() += double{step.q[static_cast<size_t>(h * dim + i)]} * k[i];
    double sum = 0;
    for (double& score : scores) sum += score = std::exp(score * double{testing::kStepScale});
    for (size_t row = 0; row < values.size(); ++row) {
      for (int64_t i = 0; i < dim; ++i)
        out[static_cast<size_t>(h * dim + i)] +=
            scores[row] / sum * double{values[row][static_cast<size_t>(i)]};
    }
  }
  return out;
}

TEST_P(EvictingMemory, AnswersAreDenseAttentionOverTheRowsKept) {
  const auto memory = build(spec("budget=0.2") + "+full(dtype=f32)");
  read(*memory, 300);
  for (int token = 0; token < 40; ++token) {  // past the point where hidden rows are moved out
    std::vector<double> want;
    for (int64_t layer = 0; layer < kShape.layers(); ++layer) {
      const auto answers = dense_answers(*memory, layer, rows_at(layer, memory->length(), 1));
      want.insert(want.end(), answers.begin(), answers.end());
    }
    const std::vector<float> got = read(*memory, 1);
    for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-5) << "token " << token;
  }
}

TEST_P(EvictingMemory, ForkedAndRestoredGoOnBitForBit) {
  const testing::TemporaryFolder folder;
  const auto memory = build(spec("budget=0.2"));
  read(*memory, 300);
  read(*memory, 1);
  const auto fork = memory->fork();
  const MemoryIdentity identity{.model = "test"};
  save_memory(folder / "m.safetensors", *memory, std::vector<int32_t>(301), identity);
  const auto restored =
      load_memory(folder / "m.safetensors", MemoryRegistry::builtin(), kShape, identity).memory;
  EXPECT_EQ(positions(*restored), positions(*memory));
  for (const int64_t tokens : {1, 1, 1, 60, 1}) {
    const auto want = read(*memory, tokens);
    EXPECT_EQ(read(*fork, tokens), want);
    EXPECT_EQ(read(*restored, tokens), want);
  }
  EXPECT_EQ(positions(*fork), positions(*memory));
  EXPECT_EQ(positions(*restored), positions(*memory));
}

TEST_P(EvictingMemory, AStepThatFailsChangesNothing) {
  const auto memory = build(spec("budget=0.2"));
  ThreadPool pool(2);
  const auto fail_step = [&](int64_t tokens) {
    std::vector<float> answers;
    const int64_t first = memory->length();
    memory->begin(memory->plan(tokens));
    for (int64_t layer = 0; layer < 3; ++layer)
      testing::attend_rows(*memory, layer, rows_at(layer, first, tokens), pool, answers);
    memory->abort();
  };
  fail_step(300);
  EXPECT_EQ(memory->length(), 0);
  EXPECT_EQ(positions(*memory), Held(8));
  read(*memory, 300);
  const auto untouched = memory->fork();
  fail_step(1);
  fail_step(50);
  EXPECT_EQ(positions(*memory), positions(*untouched));
  for (const int64_t tokens : {1, 70}) EXPECT_EQ(read(*memory, tokens), read(*untouched, tokens));
}

TEST_P(EvictingMemory, OnlyOneLayerIsEverWholeWhileATextIsRead) {
  if (std::string(GetParam()).find("cascade=off") != std::string::npos)
    GTEST_SKIP() << "cuts all layers at the end";
  const auto memory = build(spec("budget=0.1"));
#if defined(MNEME_SANITIZED)  // the same code, in minutes less
  const int64_t tokens = 600;
#else
  const int64_t tokens = 1200;
#endif
  const double windowed = 0.25 * 50 / static_cast<double>(tokens);
  const StepPlan plan = memory->plan(tokens);
  read(*memory, tokens);
  const double full = static_cast<double>(tokens * kShape.f16_bytes_per_token());
  // Three layers of four are cut to a tenth; layer 1 holds its window; one more is whole.
  const double page = static_cast<double>(RowFormat{.k_dim = 64, .v_dim = 64}.page_bytes());
  const double partly_filled = page * static_cast<double>(kShape.layers() * kShape.kv_heads);
  EXPECT_LE(static_cast<double>(memory->peak_bytes()),
            1.03 * full * (0.75 * 0.1 + windowed + 0.25) + partly_filled);
  EXPECT_LE(memory->peak_bytes(), plan.resident_bytes * 11 / 10);
  EXPECT_LE(static_cast<double>(memory->resident_bytes()),
            1.03 * full * (0.75 * 0.1 + windowed) + partly_filled);
}

TEST_P(EvictingMemory, CannotGoBack) {
  const auto memory = build(spec("budget=0.2"));
  read(*memory, 300);
  EXPECT_FALSE(memory->capabilities().trim);
  EXPECT_THAT(error_of([&] { memory->trim(200); }), HasSubstr("may be gone"));
  memory->trim(0);
  EXPECT_EQ(memory->length(), 0);
  const auto fresh = build(spec("budget=0.2"));
  EXPECT_EQ(read(*memory, 300), read(*fresh, 300));
}

TEST(EvictingMemories, KeepWhatTheirScoresSay) {
  const auto kept = [](const std::string& spec) {
    const auto memory = build(spec);
    read(*memory, 200);
    return positions(*memory);
  };
  const Held streaming = kept("streaming(budget=0.1,sink=3)");
  std::vector<int32_t> want = {0, 1, 2};
  for (int32_t p = 183; p < 200; ++p) want.push_back(p);
  EXPECT_EQ(streaming[0], want);
  EXPECT_EQ(kept("tova(budget=0.1)")[0], kept("tova(budget=0.1)")[1]) << "all heads alike";
  EXPECT_NE(kept("random(budget=0.1,seed=1)"), kept("random(budget=0.1,seed=2)"));
  EXPECT_NE(kept("snapkv(budget=0.1,window=8)"), kept("knorm(budget=0.1)"));
  const Held pyramid = kept("pyramidkv(budget=0.2,window=8)");
  EXPECT_GT(pyramid[0].size(), pyramid[4].size());
  EXPECT_GT(pyramid[4].size(), pyramid[6].size());
}

}  // namespace
}  // namespace mneme
