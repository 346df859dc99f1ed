#include "mneme/cache/prompt_filter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "mneme/cache/memory_registry.h"
#include "mneme/core/error.h"
#include "mneme/models/tiny_model_testing.h"
#include "mneme/runtime/session.h"
#include "tests/support/error_of.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

class PromptFilterSession : public ::testing::Test {
 protected:
  Session session(const std::string& spec) {
    return {tiny_.model(), pool_,
            MemoryRegistry::builtin().build(spec, tiny_.model().memory_shape())};
  }
  static std::vector<float> logits(const Session& session) {
    return {session.logits().begin(), session.logits().end()};
  }

  testing::TinyModel tiny_;
  ThreadPool pool_{2};
};

TEST_F(PromptFilterSession, AShortTextIsRunAsItIs) {
  Session filtered = session("gemfilter(keep=50)"), full = session("full");
  const auto tokens = tiny_.tokens(50);
  filtered.append(tokens);
  full.append(tokens);
  EXPECT_EQ(logits(filtered), logits(full));
  EXPECT_EQ(filtered.memory().length(), 50);
}

TEST_F(PromptFilterSession, OnlyTheChosenTokensReachTheMemory) {
  Session filtered = session("gemfilter(keep=20,last=3)");
  const auto tokens = tiny_.tokens(120);
  filtered.append(tokens);
  EXPECT_EQ(filtered.tokens(), tokens);
  EXPECT_EQ(filtered.memory().length(), 20);
  EXPECT_GT(filtered.memory().peak_bytes(), filtered.memory().resident_bytes());
  // The same as a full memory that is given the chosen tokens alone.
  const PromptFilter& filter = *filtered.memory().prompt_filter();
  const auto pass = filter.make_pass();
  const SequenceStep step{tokens, pass.get(), Logits::kNone};
  tiny_.model().forward({&step, 1}, pool_);
  std::vector<int32_t> chosen;
  for (const int32_t index : filter.chosen(*pass))
    chosen.push_back(tokens[static_cast<size_t>(index)]);
  EXPECT_EQ(pass->resident_bytes(), 0) << "the pass keeps nothing";
  Session full = session("full");
  full.append(chosen);
  EXPECT_EQ(logits(filtered), logits(full));
  for (int32_t token = 0; token < 5; ++token) {
    filtered.append({&token, 1});
    full.append({&token, 1});
    EXPECT_EQ(logits(filtered), logits(full));
  }
  EXPECT_EQ(filtered.memory().length(), 25);
  EXPECT_EQ(filtered.tokens().size(), 125u);
  const Session fork = filtered.fork();
  EXPECT_EQ(fork.tokens(), filtered.tokens());
}

TEST_F(PromptFilterSession, PartsOfTheFirstPassChangeNothing) {
  const auto tokens = tiny_.tokens(150);
  Session whole = session("gemfilter(keep=30)");
  whole.append(tokens);
  for (const int64_t chunk : {1, 7, 64}) {
    Session parted = session("gemfilter(keep=30)");
    parted.append(tokens, chunk);
    EXPECT_EQ(logits(parted), logits(whole)) << chunk;
  }
}

TEST_F(PromptFilterSession, ANewTextIsChosenFromEverything) {
  const auto tokens = tiny_.tokens(100);
  Session turns = session("gemfilter(keep=25)"), once = session("gemfilter(keep=25)");
  turns.append(std::span(tokens).first(60));
  turns.append(std::span(tokens).subspan(60));
  once.append(tokens);
  EXPECT_EQ(logits(turns), logits(once));
  EXPECT_EQ(turns.tokens(), tokens);
  const auto other = tiny_.tokens(70, 9);
  EXPECT_EQ(turns.advance_to(other), 0);
  Session fresh = session("gemfilter(keep=25)");
  fresh.append(other);
  EXPECT_EQ(logits(turns), logits(fresh));
  EXPECT_EQ(turns.advance_to(other), 70) << "it is there already";
}

TEST_F(PromptFilterSession, ATextInPartsIsRefused) {
  Session filtered = session("gemfilter(keep=25)");
  const auto tokens = tiny_.tokens(100);
  EXPECT_THAT(error_of([&] { filtered.append(tokens, 0, {}, 5); }),
              HasSubstr("cannot be appended in parts"));
  EXPECT_EQ(filtered.memory().length(), 0);
}

TEST_F(PromptFilterSession, StoppingTheFirstPassLeavesTheSessionAsItWas) {
  Session filtered = session("gemfilter(keep=25)");
  const auto tokens = tiny_.tokens(100);
  filtered.append(tokens);
  const std::vector<float> before = logits(filtered);
  EXPECT_EQ(filtered.append(tokens, 10, [](int64_t done, int64_t) { return done < 50; }), 0);
  EXPECT_EQ(filtered.tokens(), tokens);
  EXPECT_EQ(logits(filtered), before);
}

}  // namespace
}  // namespace mneme
