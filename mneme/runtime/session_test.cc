#include "mneme/runtime/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "mneme/cache/memory_file.h"
#include "mneme/cache/memory_registry.h"
#include "mneme/core/error.h"
#include "mneme/models/tiny_model_testing.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_folder.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::TinyModel;

class SessionTest : public ::testing::TestWithParam<const char*> {
 protected:
  Session session(const char* spec) {
    return {tiny_.model(), pool_,
            MemoryRegistry::builtin().build(spec, tiny_.model().memory_shape())};
  }
  static std::vector<float> logits(const Session& session) {
    return {session.logits().begin(), session.logits().end()};
  }

  // Greedy tokens after what the session holds.
  static std::vector<int32_t> go_on(Session& session, int64_t count) {
    std::vector<int32_t> tokens;
    for (int64_t i = 0; i < count; ++i) {
      const auto row = session.logits();
      tokens.push_back(
          static_cast<int32_t>(std::max_element(row.begin(), row.end()) - row.begin()));
      session.append({&tokens.back(), 1});
    }
    return tokens;
  }

  TinyModel tiny_;
  ThreadPool pool_{2};
};

INSTANTIATE_TEST_SUITE_P(Specs, SessionTest,
                         ::testing::Values("full", "q8(group=32)", "q4(group=32)",
                                           "sliding(window=40,sink=2)",
                                           "sliding(window=40,sink=2)+q8(group=32)"));

TEST_P(SessionTest, ColdForkedRestoredAndSingleTokenRunsGiveTheSameTokens) {
  const std::vector<int32_t> prompt = tiny_.tokens(120);
  Session cold = session(GetParam());
  cold.append(prompt);
  const std::vector<int32_t> expected = go_on(cold, 40);

  Session parent = session(GetParam());
  parent.append(std::span(prompt).first(70), 33);
  Session forked = parent.fork();
  forked.append(std::span(prompt).subspan(70), 17);
  EXPECT_EQ(go_on(forked, 40), expected);

  testing::TemporaryFolder folder;
  const MemoryIdentity identity = {"model", "tokenizer", "template"};
  save_memory(folder / "memory", parent.memory(), parent.tokens(), identity);
  LoadedMemory loaded = load_memory(folder / "memory", MemoryRegistry::builtin(),
                                    tiny_.model().memory_shape(), identity);
  ThreadPool other_pool(3);
  Session restored(tiny_.model(), other_pool, std::move(loaded.memory), std::move(loaded.tokens));
  restored.append(std::span(prompt).subspan(70));
  EXPECT_EQ(go_on(restored, 40), expected);

  Session single = session(GetParam());
  single.append(prompt, 1);
  EXPECT_EQ(go_on(single, 40), expected);
}

TEST_P(SessionTest, AdvancingReusesTheCommonPrefixExactly) {
  const std::vector<int32_t> first = tiny_.tokens(60, 1);
  std::vector<int32_t> second(first.begin(), first.begin() + 50);
  const std::vector<int32_t> tail = tiny_.tokens(20, 2);
  second.insert(second.end(), tail.begin(), tail.end());
  Session warm = session(GetParam());
  EXPECT_EQ(warm.advance_to(first), 0);
  EXPECT_EQ(warm.advance_to(first), 60);  // nothing to do
  EXPECT_EQ(warm.advance_to(std::span(first).first(60)), 60);
  EXPECT_EQ(warm.advance_to(second), 50);
  Session cold = session(GetParam());
  cold.append(second);
  EXPECT_EQ(logits(warm), logits(cold));
  EXPECT_EQ(warm.advance_to(std::span(second).first(55)),
            54);  // a prefix: its last token is run again
  Session prefix = session(GetParam());
  prefix.append(std::span(second).first(55));
  EXPECT_EQ(logits(warm), logits(prefix));
}

TEST_F(SessionTest, VisitsTheLogitsOfEveryToken) {
  const std::vector<int32_t> tokens = tiny_.tokens(50);
  Session visited = session("full");
  std::vector<int64_t> positions;
  std::vector<float> last;
  visited.append_visiting(tokens, 16, [&](int64_t position, std::span<const float> row) {
    positions.push_back(position);
    last.assign(row.begin(), row.end());
  });
  ASSERT_EQ(positions.size(), 50u);
  for (int64_t i = 0; i < 50; ++i) EXPECT_EQ(positions[static_cast<size_t>(i)], i);
  Session plain = session("full");
  plain.append(tokens);
  EXPECT_EQ(last, logits(plain));
}

TEST_F(SessionTest, StopsWhereTheCallerSays) {
  const std::vector<int32_t> tokens = tiny_.tokens(100);
  Session stopped = session("full");
  EXPECT_EQ(stopped.append(tokens, 30,
                           [](int64_t done, int64_t total) { return total == 100 && done < 60; }),
            60);
  EXPECT_EQ(stopped.memory().length(), 60);
  EXPECT_EQ(stopped.append(std::span(tokens).subspan(60)), 40);
  Session straight = session("full");
  straight.append(tokens);
  EXPECT_EQ(logits(stopped), logits(straight));
}

TEST_F(SessionTest, ATextOverTheContextIsRefusedBeforeAnyWork) {
  Session full = session("full");
  const std::vector<int32_t> tokens = tiny_.tokens(300);
  EXPECT_THAT(error_of([&] { full.append(tokens, 64); }),
              HasSubstr("44 tokens longer than the model's context of 256"));
  EXPECT_EQ(full.memory().length(), 0);
  Session sliding = session("sliding(window=40,sink=0)");
  EXPECT_EQ(sliding.append(tokens, 64), 300);
}

TEST_F(SessionTest, GoesOnPastTheContextWhereRowsCloseRanks) {
  const std::vector<int32_t> text = tiny_.tokens(200);
  Session bound = session("streaming(rows=60)"), endless = session("streaming(rows=60)+rerotate");
  bound.append(text);
  endless.append(text);
  EXPECT_THAT(error_of([&] { bound.append(text); }), HasSubstr("longer than the model's context"));
  endless.append(std::span(text).first(150), 70);
  go_on(endless, 350);
  EXPECT_EQ(std::ssize(endless.tokens()), 700);
  EXPECT_EQ(endless.memory().length() + endless.memory().filtered_tokens(), 700);
  EXPECT_LE(endless.memory().length(), 256);

  const testing::TemporaryFolder folder;
  const MemoryIdentity identity{"model", "tokenizer", "template"};
  save_memory(folder / "session", endless.memory(), endless.tokens(), identity);
  LoadedMemory loaded = load_memory(folder / "session", MemoryRegistry::builtin(),
                                    tiny_.model().memory_shape(), identity);
  Session restored(tiny_.model(), pool_, std::move(loaded.memory), std::move(loaded.tokens));
  const std::vector<int32_t> more = tiny_.tokens(20);
  endless.append(more);
  restored.append(more);
  EXPECT_EQ(logits(restored), logits(endless));
  EXPECT_EQ(go_on(restored, 60), go_on(endless, 60));
}

TEST_F(SessionTest, AWindowThatHasPassedRefusesToAdvanceBack) {
  Session sliding = session("sliding(window=20,sink=0)");
  const std::vector<int32_t> tokens = tiny_.tokens(200);
  sliding.append(tokens);
  std::vector<int32_t> other(tokens.begin(), tokens.begin() + 90);
  other.push_back(3);
  EXPECT_THAT(error_of([&] { sliding.advance_to(other); }), HasSubstr("does not hold position"));
  EXPECT_EQ(sliding.tokens(), tokens);
}

TEST_F(SessionTest, ChecksItsArguments) {
  Session full = session("full");
  EXPECT_THAT(error_of([&] { full.append(tiny_.tokens(3), -1); }),
              HasSubstr("the chunk must not be negative, got -1"));
  EXPECT_THAT(error_of([&] { full.advance_to({}); }), HasSubstr("at least one token"));
  EXPECT_THAT(error_of([&] { Session(tiny_.model(), pool_, nullptr); }), HasSubstr("no memory"));
  EXPECT_THAT(error_of([&] {
                Session(tiny_.model(), pool_,
                        MemoryRegistry::builtin().build("full", tiny_.model().memory_shape()),
                        {1, 2});
              }),
              HasSubstr("has seen 0 tokens, 2 are given"));
}

}  // namespace
}  // namespace mneme
