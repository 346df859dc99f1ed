#include "mneme/cache/policy/quest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

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
using testing::rows_at;
using testing::StepRows;

// Layer 2 has a window of the model's own; with dense=1, layers 1 and 3 choose.
const MemoryShape kShape = {.q_heads = 6,
                            .kv_heads = 2,
                            .k_dim = 64,
                            .v_dim = 64,
                            .context = 4096,
                            .windows = {0, 0, 50, 0},
                            .model_fingerprint = "test"};

// Without it: rows behind a window are gone, and then no trim goes back there.
MemoryShape without_window() {
  MemoryShape shape = kShape;
  shape.windows = {0, 0, 0, 0};
  return shape;
}

std::unique_ptr<SequenceMemory> build(const std::string& spec, const MemoryShape& shape = kShape) {
  return MemoryRegistry::builtin().build(spec, shape);
}

const Quest& quest(const SequenceMemory& memory) {
  return dynamic_cast<const Quest&>(dynamic_cast<const PagedMemory&>(memory).policy());
}

// The next `tokens` positions; the answers of the first `layers` layers. Committed where those are
// all, otherwise aborted.
std::vector<float> read(SequenceMemory& memory, int64_t tokens, int64_t layers = 4) {
  ThreadPool pool(2);
  std::vector<float> answers;
  const int64_t first = memory.length();
  memory.begin(memory.plan(tokens));
  for (int64_t layer = 0; layer < layers; ++layer) {
    testing::attend_rows(memory, layer, rows_at(memory.shape(), layer, first, tokens), pool,
                         answers);
  }
  if (layers == memory.shape().layers()) {
    memory.commit();
  } else {
    memory.abort();
  }
  return answers;
}

double dot(const float* a, const float* b) {
  return std::inner_product(a, a + 64, b, 0.0, std::plus<>(),
                            [](float x, float y) { return double{x} * double{y}; });
}

// The pages of a KV head by the formula in float64, from keys as the model gave them.
std::vector<int32_t> naive_pages(const StepRows& all, int64_t head, int64_t rows, int64_t page,
                                 int64_t wanted) {
  const int64_t ratio = kShape.q_heads / kShape.kv_heads;
  std::vector<std::pair<double, int32_t>> worth;
  for (int64_t first = 0; first < rows; first += page) {
    const auto id = static_cast<int32_t>(first / page);
    double most = -1e300;
    for (int64_t h = head * ratio; h < (head + 1) * ratio; ++h) {
      const float* q = all.q.data() + ((rows - 1) * kShape.q_heads + h) * 64;
      double sum = 0;
      for (int64_t d = 0; d < 64; ++d) {
        double best = -1e300;
        for (int64_t row = first; row < std::min(rows, first + page); ++row) {
          best = std::max(
              best,
              double{q[d]} * all.k[static_cast<size_t>((row * kShape.kv_heads + head) * 64 + d)]);
        }
        sum += best;
      }
      most = std::max(most, sum);
    }
    worth.emplace_back(first + page >= rows ? -1e300 : -most, id);
  }
  std::swap(worth.front(), worth.back());  // the newest is always read
  std::sort(worth.begin() + 1, worth.end());
  std::vector<int32_t> pages;
  for (int64_t i = 0; i < wanted; ++i) pages.push_back(worth[static_cast<size_t>(i)].second);
  std::ranges::sort(pages);
  return pages;
}

TEST(Quest, ReadsThePagesOfTheFormulaAndAnswersAsDenseAttentionOverThem) {
  std::map<int64_t, StepRows> all;  // of the layers without a window
  for (const int64_t layer : {0, 1, 3}) all[layer] = rows_at(kShape, layer, 0, 220);
  for (const auto& [page, budget] : {std::pair{16, 80}, {7, 50}, {64, 64}, {1, 20}}) {
    const auto memory =
        build(concat("quest(page=", page, ",budget=", budget, ",dense=1)+full(dtype=f32)"));
    read(*memory, 200);
    for (int token = 0; token < 20; ++token) {
      const int64_t rows = memory->length() + 1;
      const std::vector<float> got = read(*memory, 1);
      for (const int64_t layer : {0, 1, 3}) {
        for (int64_t h = 0; h < kShape.q_heads; ++h) {
          const int64_t head = h / 3;
          std::vector<int32_t> pages(static_cast<size_t>((rows + page - 1) / page));
          std::iota(pages.begin(), pages.end(), 0);
          if (layer > 0) {
            pages = naive_pages(all[layer], head, rows, page, budget / page);
            const auto chosen = quest(*memory).chosen(layer, head);
            ASSERT_EQ(std::vector<int32_t>(chosen.begin(), chosen.end()), pages)
                << "pages of " << page << ", layer " << layer << ", head " << head;
          }
          const float* q = all[layer].q.data() + ((rows - 1) * kShape.q_heads + h) * 64;
          std::vector<double> want(64);
          double sum = 0;
          for (const int64_t id : pages) {
            for (int64_t row = id * page; row < std::min<int64_t>(rows, (id + 1) * page); ++row) {
              const auto at = static_cast<size_t>((row * kShape.kv_heads + head) * 64);
              const double weight =
                  std::exp(dot(q, all[layer].k.data() + at) * double{testing::kStepScale});
              sum += weight;
              for (size_t d = 0; d < 64; ++d) want[d] += weight * double{all[layer].v[at + d]};
            }
          }
          for (size_t d = 0; d < 64; ++d) {
            ASSERT_NEAR(got[static_cast<size_t>((layer * kShape.q_heads + h) * 64) + d],
                        want[d] / sum, 1e-5)
                << "pages of " << page << ", layer " << layer << ", head " << h;
          }
        }
      }
    }
  }
}

TEST(Quest, HeadsReadDifferentPages) {
  const auto memory = build("quest(page=8,budget=40,dense=1)");
  read(*memory, 400);
  read(*memory, 1);
  const auto a = quest(*memory).chosen(1, 0), b = quest(*memory).chosen(1, 1);
  EXPECT_FALSE(std::ranges::equal(a, b));
  EXPECT_TRUE(quest(*memory).chosen(0, 0).empty()) << "dense";
  EXPECT_TRUE(quest(*memory).chosen(2, 0).empty()) << "has a window of its own";
}

TEST(Quest, ABudgetOfEverythingIsFull) {
  for (const char* format : {"full", "full(dtype=f32)", "q8", "q4"}) {
    const auto full = build(format);
    const auto covers = build(concat("quest(budget=256,dense=0)+", format));
    const auto all_dense = build(concat("quest(budget=16,dense=4)+", format));
    for (const int64_t tokens : {200, 1, 1, 30, 1, 22, 1}) {
      const std::vector<float> want = read(*full, tokens);
      EXPECT_EQ(read(*covers, tokens), want) << format;
      EXPECT_EQ(read(*all_dense, tokens), want) << format;
    }
    EXPECT_EQ(full->length(), 256);
    EXPECT_NE(read(*covers, 1), read(*full, 1)) << "one row more than the budget";
  }
}

// Keys are stored turned in q4: the query that judges pages must be turned too.
TEST(Quest, JudgesTurnedKeysByTurnedQueries) {
  const auto plain = build("quest(budget=160,dense=1)+q8");
  const auto turned = build("quest(budget=160,dense=1)+q8(rotate=hadamard)");
  int64_t common = 0, all = 0;
  for (SequenceMemory* memory : {plain.get(), turned.get()}) read(*memory, 640);
  for (int token = 0; token < 10; ++token) {
    for (SequenceMemory* memory : {plain.get(), turned.get()}) read(*memory, 1);
    for (int64_t head = 0; head < 2; ++head) {
      const auto a = quest(*plain).chosen(3, head), b = quest(*turned).chosen(3, head);
      all += std::ssize(a);
      for (const int32_t id : a) common += std::ranges::count(b, id);
    }
  }
  // Bounds in two bases differ, but both find pages that hold high scores: 10 of 40 by chance.
  EXPECT_GT(common, all / 3);
}

TEST(Quest, ForkedAndRestoredGoOnBitForBit) {
  const testing::TemporaryFolder folder;
  const MemoryShape shape = without_window();
  for (const char* format : {"full", "q8", "q4"}) {
    const auto memory = build(concat("quest(page=16,budget=64,dense=1)+", format), shape);
    read(*memory, 300);
    read(*memory, 1);
    const auto fork = memory->fork();
    const MemoryIdentity identity{.model = "test"};
    save_memory(folder / "m.safetensors", *memory, std::vector<int32_t>(301), identity);
    const auto restored =
        load_memory(folder / "m.safetensors", MemoryRegistry::builtin(), shape, identity).memory;
    for (const int64_t tokens : {1, 1, 1, 60, 1, 17, 1}) {
      const auto want = read(*memory, tokens);
      EXPECT_EQ(read(*fork, tokens), want) << format;
      EXPECT_EQ(read(*restored, tokens), want) << format;
    }
    EXPECT_EQ(restored->resident_bytes(), memory->resident_bytes());
    // One goes another way: the other stays.
    fork->trim(305);
    read(*fork, 40);
    const auto again = memory->fork();
    EXPECT_EQ(read(*again, 1), read(*memory, 1)) << format;
  }
}

TEST(Quest, TrimmedOrFailedStepsLeaveNothingBehind) {
  const auto memory = build("quest(page=16,budget=64,dense=1)", without_window());
  const auto never = build("quest(page=16,budget=64,dense=1)", without_window());
  read(*memory, 260);
  read(*memory, 1, 3);  // aborted
  read(*memory, 40, 2);
  for (const int64_t length : {250, 240, 233, 100}) {
    memory->trim(length);
    const auto fresh = build("quest(page=16,budget=64,dense=1)", without_window());
    read(*fresh, length);
    for (const int64_t tokens : {1, 1, 20, 1})
      EXPECT_EQ(read(*memory, tokens), read(*fresh, tokens));
    EXPECT_EQ(memory->resident_bytes(), fresh->resident_bytes());
  }
  memory->trim(0);
  for (const int64_t tokens : {150, 1}) EXPECT_EQ(read(*memory, tokens), read(*never, tokens));
}

TEST(Quest, CountsItsBoundsAndForetellsThem) {
  const auto full = build("full");
  const auto memory = build("quest(page=16,budget=64,dense=1)");
  const int64_t before = memory->predict_bytes(1000);
  const StepPlan plan = memory->plan(1000, 0);
  read(*memory, 1000);
  read(*full, 1000);
  EXPECT_EQ(memory->resident_bytes(), before);
  EXPECT_LE(memory->peak_bytes(), plan.resident_bytes);
  EXPECT_GE(memory->peak_bytes(), memory->resident_bytes());
  // Two layers of two KV heads: two float32 of 64 channels for each of 63 pages, in chunks of 16.
  const int64_t bounds = memory->resident_bytes() - full->resident_bytes();
  EXPECT_EQ(bounds, quest(*memory).state_bytes());
  EXPECT_GE(bounds, 2 * 2 * 63 * 2 * 64 * 4);
  EXPECT_LE(bounds, 2 * 2 * 64 * 2 * 64 * 4 * 101 / 100);
  memory->set_budget(memory->resident_bytes() + 1000);
  EXPECT_FALSE(memory->plan(200, 0).possible());
}

TEST(Quest, SaysWhatItCan) {
  const Capabilities can = build("quest")->capabilities();
  EXPECT_TRUE(can.trim && can.fork && can.persist && can.decodes_apart);
  EXPECT_FALSE(can.exact || can.beyond_context || can.whole_text);
}

TEST(Quest, RefusesWhatCannotBe) {
  const auto refusal = [](const QuestOptions& options) {
    return error_of([&] { Quest(kShape, options); });
  };
  EXPECT_THAT(refusal({.page = 0}), HasSubstr("a page must hold rows, got 0"));
  EXPECT_THAT(refusal({.page = 32, .budget = 31}),
              HasSubstr("a budget of 31 rows holds no page of 32"));
  EXPECT_THAT(refusal({.dense = -1}), HasSubstr("dense layers must not be negative, got -1"));
  EXPECT_THAT(error_of([] { build("quest(page=0)"); }), HasSubstr("'page' must be an integer"));
  EXPECT_THAT(error_of([] { build("quest(budget=8)"); }), HasSubstr("holds no page of 16"));
}

}  // namespace
}  // namespace mneme
