// Quest on a whole model: greedy runs that are forked, saved, trimmed and read in parts.
#include <gtest/gtest.h>

#include "mneme/cache/memory_file.h"
#include "mneme/cache/memory_registry.h"
#include "mneme/cache/paged_memory.h"
#include "mneme/cache/policy/quest.h"
#include "mneme/models/tiny_model_testing.h"
#include "mneme/runtime/sampler.h"
#include "mneme/runtime/session.h"
#include "tests/support/temporary_folder.h"

namespace mneme {
namespace {

using testing::TinyModel;

constexpr const char* kSpec = "quest(page=8,budget=48,dense=1)";

class QuestSession : public ::testing::Test {
 protected:
  Session session(const std::string& spec) {
    return {tiny_.model(), pool_,
            MemoryRegistry::builtin().build(spec, tiny_.model().memory_shape())};
  }

  // The logits of `count` greedy steps, one after the other.
  static std::vector<float> go_on(Session& session, int64_t count) {
    std::vector<float> logits;
    for (int64_t i = 0; i < count; ++i) {
      const int32_t token = argmax(session.logits());
      session.append({&token, 1});
      logits.insert(logits.end(), session.logits().begin(), session.logits().end());
    }
    return logits;
  }

  TinyModel tiny_;
  ThreadPool pool_{2};
};

TEST_F(QuestSession, ABudgetOfEverythingAnswersAsFull) {
  Session full = session("full"), covers = session("quest(page=8,budget=192,dense=0)");
  for (Session* one : {&full, &covers}) one->append(tiny_.tokens(150));
  EXPECT_EQ(go_on(covers, 42), go_on(full, 42));
  EXPECT_NE(go_on(covers, 1), go_on(full, 1)) << "192 rows are the budget";
}

TEST_F(QuestSession, ForkedRestoredTrimmedAndPartedRunsGiveTheSameBits) {
  const std::vector<int32_t> prompt = tiny_.tokens(120);
  Session cold = session(kSpec);
  cold.append(prompt);
  const std::vector<float> expected = go_on(cold, 40);
  const auto& policy =
      dynamic_cast<const Quest&>(dynamic_cast<const PagedMemory&>(cold.memory()).policy());
  EXPECT_EQ(policy.chosen(1, 0).size(), 6u);

  Session parted = session(kSpec);
  parted.append(prompt, 33);
  Session fork = parted.fork();
  EXPECT_EQ(go_on(parted, 40), expected);
  EXPECT_EQ(go_on(fork, 40), expected);

  Session again = session(kSpec);
  std::vector<int32_t> other = tiny_.tokens(120, 9);
  std::copy_n(prompt.begin(), 93, other.begin());
  again.append(prompt);
  go_on(again, 20);
  EXPECT_GE(again.advance_to(other), 93);
  Session fresh = session(kSpec);
  fresh.append(other);
  EXPECT_EQ(go_on(again, 40), go_on(fresh, 40));

  const testing::TemporaryFolder folder;
  Session saved = session(kSpec);
  saved.append(prompt);
  go_on(saved, 7);
  save_memory(folder / "m.safetensors", saved.memory(), saved.tokens(), {.model = "tiny"});
  LoadedMemory loaded = load_memory(folder / "m.safetensors", MemoryRegistry::builtin(),
                                    tiny_.model().memory_shape(), {.model = "tiny"});
  Session restored(tiny_.model(), pool_, std::move(loaded.memory), std::move(loaded.tokens));
  const int32_t token = argmax(saved.logits());
  for (Session* one : {&saved, &restored}) one->append({&token, 1});
  EXPECT_EQ(go_on(restored, 20), go_on(saved, 20));
}

}  // namespace
}  // namespace mneme
