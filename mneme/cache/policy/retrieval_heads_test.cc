#include "mneme/cache/policy/retrieval_heads.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "mneme/cache/memory_file.h"
#include "mneme/cache/memory_registry.h"
#include "mneme/cache/paged_memory.h"
#include "mneme/io/head_scores.h"
#include "tests/support/error_of.h"
#include "tests/support/memory_step.h"
#include "tests/support/temporary_folder.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::step;

// Layer 2 has a window of its own that is narrower than the policy's.
const MemoryShape kShape = {.q_heads = 6,
                            .kv_heads = 3,
                            .k_dim = 32,
                            .v_dim = 32,
                            .context = 1024,
                            .windows = {0, 0, 50},
                            .model_fingerprint = "model"};

class RetrievalHeadsMemory : public ::testing::Test {
 protected:
  // Head (0,3), of KV head 1, is the best, then (1,0), of KV head 0; the rest score nothing.
  RetrievalHeadsMemory() { write({{{0, 3}, 0.9}, {{1, 0}, 0.5}}); }
  void write(const std::vector<std::pair<HeadId, double>>& heads) {
    HeadTable run(3, 6);
    for (const auto& [head, score] : heads) run.at(head) = score;
    HeadScores scores;
    scores.add(run);
    testing::write_file(path, scores.text());
  }
  std::string spec(const std::string& more) const {
    return "retrieval-heads(file=" + path + more + ")";
  }
  std::unique_ptr<SequenceMemory> build(const std::string& text) const {
    return MemoryRegistry::builtin().build(text, kShape);
  }
  static int64_t rows(const SequenceMemory& memory, int64_t layer, int64_t head) {
    return dynamic_cast<const PagedMemory&>(memory).rows(layer, head).rows();
  }

  testing::TemporaryFolder folder;
  const std::string path = folder / "heads.jsonl";
};

TEST_F(RetrievalHeadsMemory, OnlyHeadsThatRetrieveHoldEverything) {
  // 2 of 18 query heads.
  const auto memory = build(spec(",share=0.1,window=64,sink=3"));
  step(*memory, 400, 1);
  for (int64_t layer = 0; layer < 3; ++layer) {
    for (int64_t head = 0; head < 3; ++head) {
      const bool full = (layer == 0 && head == 1) || (layer == 1 && head == 0);
      if (full) {
        EXPECT_EQ(rows(*memory, layer, head), 400);
      } else {
        EXPECT_LE(rows(*memory, layer, head), 64 + 3 * 64) << layer << " " << head;
      }
    }
  }
  EXPECT_EQ(memory->resident_bytes(), memory->predict_bytes(400));
  EXPECT_FALSE(memory->capabilities().exact);
  EXPECT_FALSE(memory->capabilities().beyond_context);
}

// Each head answers as under `full` or as under `sliding`, by whether it retrieves.
TEST_F(RetrievalHeadsMemory, HeadsAnswerAsTheirKindOfMemoryDoes) {
  const auto memory = build(spec(",share=0.1,window=64,sink=3"));
  const auto full = build("full"), sliding = build("sliding(window=64,sink=3)");
  constexpr int64_t kWidth = 6 * 32;
  for (const int64_t tokens : {300, 1, 63, 1}) {
    const auto got = step(*memory, tokens, 7), whole = step(*full, tokens, 7),
               near = step(*sliding, tokens, 7);
    EXPECT_NE(whole, near);
    for (size_t i = 0; i < got.size(); ++i) {
      const auto at = static_cast<int64_t>(i);
      const int64_t layer = at / (tokens * kWidth), kv_head = at % kWidth / 64;
      const bool retrieves = (layer == 0 && kv_head == 1) || (layer == 1 && kv_head == 0);
      ASSERT_EQ(got[i], retrieves ? whole[i] : near[i]) << layer << " " << kv_head;
    }
  }
}

TEST_F(RetrievalHeadsMemory, TheWholeShareIsFullAndNoneIsSliding) {
  const auto all = build(spec(",share=1")), full = build("full");
  EXPECT_EQ(step(*all, 500, 3), step(*full, 500, 3));
  EXPECT_TRUE(all->capabilities().exact);
  const auto none = build("retrieval-heads(window=64,sink=2)");
  const auto sliding = build("sliding(window=64,sink=2)");
  EXPECT_EQ(step(*none, 500, 3), step(*sliding, 500, 3));
  EXPECT_TRUE(none->capabilities().beyond_context);
  EXPECT_EQ(build(spec(",share=0"))->capabilities().beyond_context, true);
}

TEST_F(RetrievalHeadsMemory, SaveLoadForkAndTrimKeepIt) {
  const std::string text = spec(",share=0.1,window=64,sink=3") + "+q8(group=32)";
  const auto memory = build(text);
  step(*memory, 330, 1);
  const auto fork = memory->fork();
  const std::string file = folder / "memory.safetensors";
  const MemoryIdentity identity = {"model", "tokenizer", "template"};
  save_memory(file, *memory, std::vector<int32_t>(330, 1), identity);
  const auto load = [&] {
    return load_memory(file, MemoryRegistry::builtin(), kShape, identity).memory;
  };
  const auto loaded = load();
  const auto want = step(*memory, 9, 2);
  EXPECT_EQ(step(*fork, 9, 2), want);
  EXPECT_EQ(step(*loaded, 9, 2), want);
  loaded->trim(330);
  EXPECT_EQ(step(*loaded, 9, 2), want);
  EXPECT_THAT(loaded->cannot_trim_to(100), HasSubstr("does not hold position"));
  // Other heads retrieve now: what the saved memory let go is not what this one would hold.
  write({{{1, 5}, 0.9}, {{1, 0}, 0.5}});
  EXPECT_THAT(error_of(load), HasSubstr("was saved with other retrieval heads"));
}

TEST_F(RetrievalHeadsMemory, BadFilesAreRefused) {
  EXPECT_THAT(error_of([&] { build("retrieval-heads(file=/nowhere.jsonl)"); }),
              HasSubstr("/nowhere.jsonl"));
  testing::write_file(path, "{\"7-0\": [1]}");
  EXPECT_THAT(error_of([&] { build(spec("")); }), HasSubstr("head (7,0) is not one of 3 layers"));
  EXPECT_THAT(error_of([&] { build(spec(",share=1.5")); }),
              HasSubstr("'share' must be a number from 0 to 1"));
  EXPECT_THAT(error_of([&] { RetrievalHeadsPolicy(kShape, {.window = 0}); }),
              HasSubstr("window must be positive"));
}

}  // namespace
}  // namespace mneme
