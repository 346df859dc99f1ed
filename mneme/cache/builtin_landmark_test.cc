#include "mneme/cache/builtin_landmark.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "mneme/cache/landmark_memory.h"
#include "mneme/cache/landmark_testing.h"
#include "mneme/cache/memory_file.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_folder.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

const MemoryShape kShape = {.q_heads = 4,
                            .kv_heads = 2,
                            .k_dim = 16,
                            .v_dim = 16,
                            .context = 1024,
                            .windows = {0, 0},
                            .rotary = {{}, {}},
                            .model_fingerprint = ""};

std::unique_ptr<SequenceMemory> built(const std::string& spec) {
  return MemoryRegistry::builtin().build(spec, kShape);
}

TEST(BuiltinLandmark, TakesItsOptionsFromTheSpec) {
  const auto memory = built("landmark(block=8,top=3,window=20,keep=5,select=heads)");
  const auto& options = dynamic_cast<const LandmarkMemory&>(*memory).options();
  EXPECT_EQ(options.landmark, LandmarkOptions::Landmark::kMean);
  EXPECT_EQ(options.block, 8);
  EXPECT_EQ(options.top, 3);
  EXPECT_EQ(options.window, 20);
  EXPECT_EQ(options.blocks, 5);
  EXPECT_EQ(options.selection, LandmarkSelection::kMaxOverHeads);
  EXPECT_EQ(options.dtype, DType::kF16);
  EXPECT_TRUE(memory->capabilities().unrotated);
  const auto wide = built("full(dtype=f32)+landmark");
  EXPECT_EQ(dynamic_cast<const LandmarkMemory&>(*wide).options().dtype, DType::kF32);
}

TEST(BuiltinLandmark, RefusesWhatItCannotBeJoinedWith) {
  EXPECT_EQ(error_of([] { built("landmark+q8"); }),
            "'landmark' keeps rows as floats: join it with full(dtype=f16) or full(dtype=f32), or "
            "with no format");
  EXPECT_THAT(error_of([] { built("sliding+landmark"); }),
              HasSubstr("a row policy and a whole memory ('landmark'); they cannot be joined"));
  EXPECT_THAT(error_of([] { built("landmark+snapkv"); }),
              HasSubstr("a whole memory and a row policy ('snapkv'); they cannot be joined"));
  EXPECT_THAT(error_of([] { built("landmark(keep=2)"); }),
              HasSubstr("keeps 2 blocks, fewer than the 4 to fetch"));
}

TEST(BuiltinLandmark, AFileBringsItBackAndNoOtherModelTakesIt) {
  const testing::TemporaryFolder folder;
  const std::string path = folder / "memory", spec = "landmark(block=8,top=2,window=16)";
  const auto memory = built(spec);
  const testing::LandmarkText text = testing::landmark_text(kShape, 90, 3);
  testing::landmark_answers(*memory, text, {60});
  const std::vector<int32_t> tokens(60, 7);
  save_memory(path, *memory, tokens, {});
  LoadedMemory loaded = load_memory(path, MemoryRegistry::builtin(), kShape, {});
  EXPECT_EQ(loaded.tokens, tokens);
  EXPECT_EQ(loaded.memory->spec(), memory->spec());
  EXPECT_EQ(testing::landmark_answers(*loaded.memory, text, {30}),
            testing::landmark_answers(*memory, text, {30}));
  MemoryShape other = kShape;
  for (RotaryPositions& rotary : other.rotary) rotary.pairs = RopePairs::kInterleaved;
  EXPECT_THAT(error_of([&] { load_memory(path, MemoryRegistry::builtin(), other, {}); }),
              HasSubstr("rotary halves base 10000 scale 1', this memory has"));
}

}  // namespace
}  // namespace mneme
