#include "mneme/interpret/hylra_profiler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "mneme/cache/memory_registry.h"
#include "mneme/cache/paged_memory.h"
#include "mneme/cache/policy/hylra.h"
#include "mneme/core/error.h"
#include "mneme/models/tiny_model_testing.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_folder.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

HylraStudyOptions options_of(const testing::TinyModel& tiny) {
  return {.tokens = tiny.tokens(120),
          .steps = 5,
          .profile = {.block = 8, .sink = 8, .recent = 16, .preserved = 40, .sparsity = 1},
          .theta = 0.3};
}

TEST(HylraProfiler, MakesAPlanThatTheMemoryTakes) {
  testing::TinyModel tiny;
  ThreadPool pool(2);
  const HylraStudy study = profile_hylra(tiny.model(), pool, options_of(tiny));
  EXPECT_TRUE(study.complete);
  EXPECT_EQ(study.layers, (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(study.plan, (std::vector<int64_t>{-1, 0})) << "blocks of 5 of 15 overlap by a third";
  EXPECT_GT(study.overlap[1], 0.3);
  EXPECT_LE(study.overlap[1], 1.0);
  const testing::TemporaryFolder folder;
  const MemoryShape& shape = tiny.model().memory_shape();
  write_hylra_plan(folder / "p.json", study.plan, shape.model_fingerprint);
  Session session(tiny.model(), pool,
                  MemoryRegistry::builtin().build(
                      "hylra(block=8,blocks=5,profile=" + (folder / "p.json") + ")", shape));
  session.append(tiny.tokens(100));
  session.append(tiny.tokens(1));
  const auto& memory = dynamic_cast<const PagedMemory&>(session.memory());
  EXPECT_EQ(memory.length(), 101);
  EXPECT_EQ(dynamic_cast<const Hylra&>(memory.policy()).attended_rows(), 101 + (4 * 8 + 5))
      << "all rows in layer 0; four blocks and the newest, which is not full, in layer 1";
}

TEST(HylraProfiler, EveryLayerIsFullWhereNoneMayBeSparse) {
  testing::TinyModel tiny;
  ThreadPool pool(1);
  HylraStudyOptions options = options_of(tiny);
  options.profile.sparsity = 0;
  const HylraStudy study = profile_hylra(tiny.model(), pool, options);
  EXPECT_EQ(study.sensitive, (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(study.full_layers(), 2);
}

TEST(HylraProfiler, StopsWhenToldAndRefusesBadOptions) {
  testing::TinyModel tiny;
  ThreadPool pool(1);
  HylraStudyOptions options = options_of(tiny);
  EXPECT_FALSE(profile_hylra(tiny.model(), pool, options, [](int64_t done, int64_t) {
                 return done < 117;
               }).complete);
  options.steps = 120;
  EXPECT_THAT(error_of([&] { profile_hylra(tiny.model(), pool, options); }),
              HasSubstr("steps of 1 to 119 for a text of 120 tokens, got 120"));
  options = options_of(tiny);
  options.theta = 2;
  EXPECT_THAT(error_of([&] { profile_hylra(tiny.model(), pool, options); }), HasSubstr("theta"));
}

}  // namespace
}  // namespace mneme
