#include "mneme/cache/policy/hylra.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "mneme/cache/memory_registry.h"
#include "mneme/core/error.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_folder.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

const MemoryShape kShape = {.q_heads = 2,
                            .kv_heads = 1,
                            .k_dim = 64,
                            .v_dim = 64,
                            .context = 64,
                            .windows = {0, 0, 0, 0},
                            .model_fingerprint = "this"};

TEST(Hylra, GuessesAroundLayersWithWindows) {
  EXPECT_EQ(hylra_guess(std::vector<int64_t>(9, 0)),
            (std::vector<int64_t>{-1, -1, 1, 1, -1, 4, 4, -1, 7}));
  EXPECT_EQ(hylra_guess(std::vector<int64_t>{0, 5, 0, 5, 0}),
            (std::vector<int64_t>{-1, -1, -1, -1, 2}));
}

TEST(Hylra, AProfileGoesToAFileAndBackToItsModelOnly) {
  const testing::TemporaryFolder folder;
  const std::vector<int64_t> plan = {-1, 0, -1, 2};
  write_hylra_plan(folder / "p.json", plan, "this");
  EXPECT_EQ(read_hylra_plan(folder / "p.json", "this"), plan);
  EXPECT_THAT(error_of([&] { read_hylra_plan(folder / "p.json", "other"); }),
              HasSubstr("made for model this, this is model other"));
  EXPECT_THAT(error_of([&] { read_hylra_plan(folder / "none", "this"); }),
              HasSubstr("cannot read the profile"));
  testing::write_file(folder / "bad.json", "[1,");
  EXPECT_THAT(error_of([&] { read_hylra_plan(folder / "bad.json", "this"); }),
              HasSubstr("not a profile of HyLRA"));
  testing::write_file(folder / "text.json",
                      R"({"format": "mneme-hylra-1", "model": "this", "plan": ["a"]})");
  EXPECT_THAT(error_of([&] { read_hylra_plan(folder / "text.json", "this"); }),
              HasSubstr("an array of whole numbers"));
  const auto build = [&](const std::string& spec) {
    return error_of([&] { MemoryRegistry::builtin().build(spec, kShape); });
  };
  MemoryRegistry::builtin().build("hylra(profile=" + (folder / "p.json") + ")", kShape);
  EXPECT_THAT(build("hylra(plan=-1:0:-1:2,profile=" + (folder / "p.json") + ")"),
              HasSubstr("a profile and a plan"));
}

TEST(Hylra, RefusesWhatCannotBe) {
  const auto refusal = [&](const std::string& spec) {
    return error_of([&] { MemoryRegistry::builtin().build(spec, kShape); });
  };
  EXPECT_THAT(refusal("hylra(plan=-1:0:x:2)"), HasSubstr("whole numbers joined by ':'"));
  EXPECT_THAT(refusal("hylra(plan=-1:0)"), HasSubstr("for 2 layers, the model has 4"));
  EXPECT_THAT(refusal("hylra(plan=-1:0:1:-1)"), HasSubstr("layer 2 cannot read what layer 1"));
  EXPECT_THAT(refusal("hylra(blocks=2,sink=1,recent=2)"), HasSubstr("2 blocks cannot hold 1"));
  MemoryShape windowed = kShape;
  windowed.windows = {0, 8, 0, 0};
  EXPECT_THAT(error_of([&] {
                Hylra(windowed, {.plan = {-1, 0, -1, 2}});
              }),
              HasSubstr("layer 1 reads what layer 0 chose, and one of them has a window"));
}

}  // namespace
}  // namespace mneme
