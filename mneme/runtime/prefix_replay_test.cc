#include "mneme/runtime/prefix_replay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "mneme/cache/alisa_memory.h"
#include "mneme/cache/memory_registry.h"
#include "mneme/models/tiny_model_testing.h"
#include "mneme/runtime/sampler.h"
#include "mneme/runtime/session.h"
#include "tests/support/error_of.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

class Replay : public ::testing::Test {
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

// With rows as they are in both tiers, deleting them and running the prompt again changes no bit: of
// tokens that follow, and of a second text, which wants every deleted row.
TEST_F(Replay, DeletedRowsComeBackAsTheyWere) {
  const auto prompt = tiny_.tokens(120);
  Session kept = session("alisa(ratio=0.4)");
  Session deleted = session("alisa(ratio=0.4,block=4,capacity=84,slow=same,beta=1,p2=3)");
  kept.append(prompt);
  deleted.append(prompt);
  const auto& memory = dynamic_cast<const AlisaMemory&>(deleted.memory());
  int64_t recomputed = 0;
  for (int64_t step = 0; step < 40; ++step) {
    ASSERT_EQ(logits(kept), logits(deleted)) << "step " << step;
    const int32_t token = argmax(kept.logits());
    kept.append({&token, 1});
    deleted.append({&token, 1});
    recomputed += memory.last_step().recomputes;
  }
  EXPECT_GT(recomputed, 0);
  EXPECT_GT(memory.placement().deleted, 0);
  const auto more = tiny_.tokens(30);
  kept.append(more);
  deleted.append(more);
  EXPECT_EQ(logits(kept), logits(deleted));
}

TEST_F(Replay, OtherMemoriesNeedNone) {
  Session full = session("full");
  full.append(tiny_.tokens(20));
  EXPECT_EQ(replay_prefix(tiny_.model(), pool_, full.memory(), full.tokens(), 1, 0), 0);
}

TEST_F(Replay, ATextThatIsTooShortIsRefused) {
  Session deleted = session("alisa(ratio=0.4,block=4,capacity=64,beta=1,p2=0)");
  deleted.append(tiny_.tokens(120));
  EXPECT_THAT(error_of([&] { replay_prefix(tiny_.model(), pool_, deleted.memory(), {}, 5, 0); }),
              HasSubstr("needs the first 60 tokens again, 0 are known"));
}

}  // namespace
}  // namespace mneme
