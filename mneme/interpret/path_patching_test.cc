#include "mneme/interpret/path_patching.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "mneme/cache/memory_registry.h"
#include "mneme/models/tiny_model_testing.h"
#include "mneme/runtime/session.h"
#include "tests/support/error_of.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::TinyModel;

class PathPatching : public ::testing::Test {
 protected:
  TinyModel tiny;
  ThreadPool pool{2};
  const std::vector<int32_t> clean_tokens = tiny.tokens(70, 1), corrupt_tokens = tiny.tokens(70, 2);
  const LastPosition clean = record_last_position(tiny.model(), pool, clean_tokens);
  const LastPosition corrupt = record_last_position(tiny.model(), pool, corrupt_tokens);
  const MemoryShape& shape = tiny.model().memory_shape();
};

// A hook that lays frozen heads over a whole run with real attention: the definition, head by head.
class FreezeAll final : public HeadHooks {
 public:
  FreezeAll(const std::vector<std::vector<float>>& rows, HeadId sender, const LastPosition& corrupt)
      : rows_(rows), sender_(sender), corrupt_(corrupt) {}
  void outputs(const HeadStep& step) override {
    const auto& rows = rows_[static_cast<size_t>(step.layer)];
    ASSERT_EQ(std::ssize(rows), step.tokens * step.heads * step.dim);
    std::ranges::copy(rows, step.rows);
    if (step.layer != sender_.layer) return;
    const int64_t first = (step.layer * step.heads + sender_.head) * step.dim;
    std::copy_n(corrupt_.heads.begin() + first, step.dim,
                step.head(step.tokens - 1, sender_.head).begin());
  }

 private:
  const std::vector<std::vector<float>>& rows_;  // [layers][tokens, heads, dim]
  HeadId sender_;
  const LastPosition& corrupt_;
};

class RecordAll final : public HeadHooks {
 public:
  void outputs(const HeadStep& step) override {
    rows.emplace_back(step.rows, step.rows + step.tokens * step.heads * step.dim);
  }
  std::vector<std::vector<float>> rows;
};

TEST_F(PathPatching, FrozenAtCleanNothingChanges) {
  const HeadId nobody{-1, 0};
  const std::vector<HeadId> senders(3, nobody);
  FrozenHeads memory(shape, 69, clean.heads, corrupt.heads, senders);
  const std::vector<int32_t> last(3, clean_tokens.back());
  const SequenceStep step{last, &memory, Logits::kAll};
  const auto logits = tiny.model().forward({&step, 1}, pool);
  const size_t vocabulary = clean.logits.size();
  for (size_t row = 0; row < 3; ++row)
    EXPECT_TRUE(std::ranges::equal(logits.subspan(row * vocabulary, vocabulary), clean.logits));
}

// One token without attention gives, bit for bit, what the whole prompt gives with every head frozen
// at every position.
TEST_F(PathPatching, TheShortcutIsTheDefinition) {
  RecordAll recorded;
  const auto run = [&](HeadHooks& hooks) {
    const ScopedHeadHooks scoped(tiny.model(), &hooks);
    Session session(tiny.model(), pool, MemoryRegistry::builtin().build("full(dtype=f32)", shape));
    session.append(clean_tokens);
    return std::vector<float>(session.logits().begin(), session.logits().end());
  };
  EXPECT_EQ(run(recorded), clean.logits);
  int64_t patched = 0;
  patch_direct_paths(tiny.model(), pool, clean_tokens.back(), 69, clean, corrupt,
                     [&](const HeadId& sender, std::span<const float> logits) {
                       FreezeAll frozen(recorded.rows, sender, corrupt);
                       const std::vector<float> want = run(frozen);
                       EXPECT_TRUE(std::ranges::equal(logits, want)) << head_text(sender);
                       EXPECT_NE(want, clean.logits) << head_text(sender);
                       ++patched;
                     });
  EXPECT_EQ(patched, 8);
}

// In the last layer there are no later heads: direct and total are the same.
TEST_F(PathPatching, TotalEffectsGoThroughLaterHeads) {
  std::vector<std::vector<float>> direct, total;
  patch_direct_paths(tiny.model(), pool, clean_tokens.back(), 69, clean, corrupt,
                     [&](const HeadId&, std::span<const float> logits) {
                       direct.emplace_back(logits.begin(), logits.end());
                     });
  patch_total_effects(tiny.model(), pool, clean_tokens, corrupt,
                      [&](const HeadId&, std::span<const float> logits) {
                        total.emplace_back(logits.begin(), logits.end());
                      });
  ASSERT_EQ(total.size(), 8u);
  for (size_t i = 0; i < 8; ++i) EXPECT_EQ(direct[i] == total[i], i >= 4) << i;
}

TEST_F(PathPatching, BadCallsAreRefused) {
  EXPECT_THAT(error_of([&] { record_last_position(tiny.model(), pool, {}); }),
              HasSubstr("without tokens"));
  EXPECT_THAT(error_of([&] { patch_total_effects(tiny.model(), pool, {}, corrupt, {}); }),
              HasSubstr("without tokens"));
  const std::vector<HeadId> one = {{0, 0}}, wrong = {{0, 4}};
  EXPECT_THAT(error_of([&] { FrozenHeads(shape, 69, clean.heads, corrupt.heads, wrong); }),
              HasSubstr("no head (0,4)"));
  EXPECT_THAT(error_of([&] { FrozenHeads(shape, 69, clean.heads, clean.logits, one); }),
              HasSubstr("recordings of 256 and 50 numbers, expected 256"));
  FrozenHeads memory(shape, 69, clean.heads, corrupt.heads, one);
  EXPECT_THAT(error_of([&] { memory.begin(memory.plan(2, 0)); }),
              HasSubstr("1 to 1 tokens, got 2"));
  EXPECT_THAT(error_of([&] { memory.fork(); }), HasSubstr("not forked"));
  EXPECT_THAT(error_of([&] { memory.trim(3); }), HasSubstr("hold one position"));
}

}  // namespace
}  // namespace mneme
