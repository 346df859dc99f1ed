#include "mneme/cache/landmark_memory.h"

#include <gtest/gtest.h>

#include "mneme/cache/landmark_testing.h"
#include "mneme/cache/paged_memory.h"
#include "mneme/cache/policy/keep_all.h"
#include "tests/support/error_of.h"
#include "tests/support/saved_state.h"
#include "tests/support/temporary_folder.h"

namespace mneme {
namespace {

using testing::error_of;
using testing::landmark_answers;
using testing::landmark_step;
using testing::landmark_text;
using testing::LandmarkText;
using testing::NaiveLandmark;
using testing::SavedState;
using testing::worst;
using Landmark = LandmarkOptions::Landmark;

MemoryShape shape_of(int64_t q_heads, int64_t kv_heads, int64_t dim, RopePairs pairs,
                     int64_t layers = 1) {
  MemoryShape shape{.q_heads = q_heads,
                    .kv_heads = kv_heads,
                    .k_dim = dim,
                    .v_dim = dim,
                    .context = 4096,
                    .windows = std::vector<int64_t>(static_cast<size_t>(layers), 0),
                    .rotary = {}};
  for (int64_t layer = 0; layer < layers; ++layer) {
    shape.rotary.push_back(
        {.pairs = pairs, .base = 5000.0 * static_cast<double>(layer + 1), .scale = 1.5});
  }
  return shape;
}

LandmarkOptions chunked(int64_t block, int64_t top, int64_t chunk = 1000) {
  return {.block = block, .top = top, .chunk = chunk};
}

LandmarkOptions heuristic(int64_t block, int64_t top, int64_t window) {
  return {.landmark = Landmark::kMean, .block = block, .top = top, .window = window};
}

LandmarkMemory made(const MemoryShape& shape, const LandmarkOptions& options) {
  return {"landmark", shape, options};
}

struct Case {
  const char* name;
  LandmarkOptions options;
  std::vector<int64_t> steps;
};

std::vector<Case> cases() {
  std::vector<Case> all = {
      {"one block at a time", chunked(5, 2), {5, 5, 5, 5, 5, 5, 5}},
      {"chunks cut blocks", chunked(5, 2), {7, 7, 1, 3, 12, 7, 1, 1, 1}},
      {"k = 1, blocks of 3", chunked(3, 1), {8, 8, 8, 8, 8}},
      {"k = 3, blocks of 2", chunked(2, 3), {9, 1, 1, 30}},
      {"a step is split", chunked(4, 2, 8), {50, 3}},
      {"ring", chunked(3, 2), {6, 6, 6, 6, 6, 6, 6, 20, 5}},
      {"max over tokens", chunked(5, 2), {15, 15, 14, 8}},
      {"max over heads", chunked(5, 2), {15, 15, 14, 8}},
      {"means", heuristic(4, 2, 9), {20, 1, 1, 30, 7}},
      {"means, over heads", heuristic(7, 1, 1), {40, 13}},
      {"means, ring", heuristic(4, 2, 6), {31, 30}},
      {"means by chunks", chunked(6, 2), {13, 13, 13}},
      {"tokens by a window", {.block = 5, .top = 2, .window = 11}, {33, 1, 22}},
      {"many blocks", chunked(2, 3), {100, 40, 163}},
  };
  all[5].options.blocks = 4;
  all[6].options.selection = LandmarkSelection::kMaxOverTokens;
  all[7].options.selection = LandmarkSelection::kMaxOverHeads;
  all[9].options.selection = LandmarkSelection::kMaxOverHeads;
  all[10].options.blocks = 3;
  all[11].options.landmark = Landmark::kMean;
  return all;
}

TEST(LandmarkMemory, EqualsItsDefinition) {
  uint64_t seed = 0;
  for (const Case& test : cases()) {
    for (const auto& shape :
         {shape_of(2, 2, 8, RopePairs::kInterleaved), shape_of(6, 2, 10, RopePairs::kHalves),
          shape_of(4, 1, 64, RopePairs::kHalves)}) {
      SCOPED_TRACE(::testing::Message() << test.name << ", " << shape.q_heads << " heads");
      const int64_t tokens = std::accumulate(test.steps.begin(), test.steps.end(), int64_t{0});
      const LandmarkText text = landmark_text(shape, tokens, ++seed);
      LandmarkMemory memory = made(shape, test.options);
      EXPECT_LT(worst(landmark_answers(memory, text, test.steps),
                      NaiveLandmark(shape, test.options, text).answers(test.steps)),
                1e-5);
    }
  }
}

TEST(LandmarkMemory, FetchingEveryBlockIsOnePass) {
  const MemoryShape shape = shape_of(6, 2, 64, RopePairs::kHalves);
  const LandmarkText text = landmark_text(shape, 400, 5);
  const LandmarkOptions options = chunked(51, 20, 2000);
  const std::vector<double> one_pass = NaiveLandmark(shape, options, text).answers({400});
  for (const auto& steps :
       {std::vector<int64_t>{64, 64, 64, 64, 64, 64, 16}, std::vector<int64_t>{1, 299, 1, 1, 98}}) {
    LandmarkMemory memory = made(shape, options);
    EXPECT_LT(worst(landmark_answers(memory, text, steps), one_pass), 1e-5);
  }
}

// The same rows as an ordinary memory gets them, rotated.
LandmarkText rotated_text(const MemoryShape& shape, const LandmarkText& text) {
  LandmarkText turned = text;
  const auto turn = [&](std::vector<float>& rows, int64_t heads) {
    for (int64_t i = 0; i < text.tokens * heads; ++i) {
      const auto row = testing::rotated(rows.data() + i * shape.k_dim, shape.k_dim,
                                        shape.rotary.data(), static_cast<double>(i / heads));
      std::copy(row.begin(), row.end(), rows.begin() + i * shape.k_dim);
    }
  };
  turn(turned.q, shape.q_heads);
  turn(turned.k, shape.kv_heads);
  return turned;
}

TEST(LandmarkMemory, AWindowOverEverythingIsFullAttention) {
  MemoryShape shape = shape_of(4, 2, 32, RopePairs::kInterleaved);
  const LandmarkText text = landmark_text(shape, 300, 6), turned = rotated_text(shape, text);
  for (const int64_t own_window : {0, 1, 40, 300}) {
    SCOPED_TRACE(own_window);
    shape.windows = {own_window};
    PagedMemory full("full", {.encoding = RowEncoding::kF32}, std::make_unique<KeepAll>(shape));
    const std::vector<float> want = landmark_answers(full, turned, {300});
    // Wide enough, or with enough blocks fetched, or a window that the layer has itself.
    for (const auto& options :
         {heuristic(16, 1, 300), heuristic(16, 30, 8), heuristic(300, 1, 8)}) {
      LandmarkMemory memory = made(shape, options);
      const std::vector<float> got = landmark_answers(memory, text, {100, 1, 150, 49});
      EXPECT_LT(worst(got, std::vector<double>(want.begin(), want.end())), 1e-5);
    }
  }
}

TEST(LandmarkMemory, WithAWindowStepsDoNotMatter) {
  const MemoryShape shape = shape_of(4, 2, 16, RopePairs::kHalves, 2);
  const LandmarkText text = landmark_text(shape, 200, 7);
  LandmarkMemory whole = made(shape, heuristic(8, 3, 20));
  const std::vector<float> want = landmark_answers(whole, text, {200});
  LandmarkMemory parts = made(shape, heuristic(8, 3, 20));
  EXPECT_EQ(landmark_answers(parts, text, {1, 63, 100, 1, 1, 34}), want);
  EXPECT_EQ(parts.resident_bytes(), whole.resident_bytes());
}

// Wherever a text is interrupted, going on gives the bits of not interrupting it.
TEST(LandmarkMemory, SaveLoadForkAndTrimGoOnBitForBit) {
  const testing::TemporaryFolder folder;
  const MemoryShape shape = shape_of(4, 2, 16, RopePairs::kHalves, 2);
  const LandmarkText text = landmark_text(shape, 160, 8);
  std::vector<LandmarkOptions> all = {heuristic(8, 3, 20), chunked(5, 2), chunked(5, 2)};
  all[1].selection = LandmarkSelection::kMaxOverHeads;
  all[2].dtype = DType::kF16;
  for (LandmarkOptions options : all) {
    for (const bool in_file : {false, true}) {
      options.in_file = in_file;
      options.folder = folder.path();
      for (const int64_t cut : {1, 40, 97}) {
        SCOPED_TRACE(::testing::Message() << options.block << " " << in_file << " " << cut);
        const std::vector<int64_t> rest = {7, 1, 30};
        LandmarkMemory memory = made(shape, options);
        std::vector<float> before;
        landmark_step(memory, text, cut, before);
        const SavedState saved(memory);
        const auto fork = memory.fork();
        const auto further = memory.fork();
        const std::vector<float> want = landmark_answers(memory, text, rest);
        EXPECT_EQ(landmark_answers(*fork, text, rest), want);

        LandmarkMemory loaded = made(shape, options);
        loaded.load_state(saved, cut);
        EXPECT_EQ(loaded.resident_bytes(), further->resident_bytes());
        EXPECT_EQ(landmark_answers(loaded, text, rest), want);

        landmark_answers(*further, text, {3, 20, 9});
        further->trim(cut);
        EXPECT_EQ(landmark_answers(*further, text, rest), want);
        further->trim(0);
        std::vector<float> again;
        landmark_step(*further, text, cut, again);
        EXPECT_EQ(again, before);
        EXPECT_EQ(landmark_answers(*further, text, rest), want);
      }
    }
  }
  EXPECT_TRUE(folder.names().empty());
}

TEST(LandmarkMemory, AnAbortedStepNeverWas) {
  const MemoryShape shape = shape_of(2, 1, 8, RopePairs::kHalves, 2);
  const LandmarkText text = landmark_text(shape, 60, 9), other = landmark_text(shape, 60, 10);
  ThreadPool pool(1);
  for (const int64_t first : {0, 5, 12}) {
    LandmarkMemory memory = made(shape, chunked(5, 2)), untouched = made(shape, chunked(5, 2));
    std::vector<float> unused;
    if (first > 0) landmark_step(memory, text, first, unused);
    if (first > 0) landmark_step(untouched, text, first, unused);
    const int64_t bytes = memory.resident_bytes();
    std::vector<float> out(static_cast<size_t>(20 * shape.q_heads * shape.v_dim));
    memory.begin(memory.plan(20, 0));
    memory.attend({.layer = 0,
                   .q = other.q.data(),
                   .k = other.k.data(),
                   .v = other.v.data(),
                   .out = out.data()},
                  pool);
    memory.abort();
    EXPECT_EQ(memory.resident_bytes(), bytes);
    EXPECT_EQ(landmark_answers(memory, text, {3, 20}), landmark_answers(untouched, text, {3, 20}));
  }
}

TEST(LandmarkMemory, BytesAreAsPredictedAndFilesHoldTheRest) {
  const testing::TemporaryFolder folder;
  MemoryShape shape = shape_of(4, 2, 16, RopePairs::kHalves, 2);
  shape.windows[1] = 30;
  const LandmarkText text = landmark_text(shape, 700, 11);
  for (const int64_t ring : {0, 5}) {
    for (const bool in_file : {false, true}) {
      SCOPED_TRACE(::testing::Message() << ring << in_file);
      LandmarkOptions options = heuristic(8, 3, 20);
      options.blocks = ring;
      options.in_file = in_file;
      options.folder = folder.path();
      LandmarkMemory memory = made(shape, options);
      EXPECT_EQ(memory.resident_bytes(), memory.predict_bytes(0));
      std::vector<float> answers;
      int64_t most = 0;
      for (const int64_t tokens : {1, 62, 1, 99, 437, 8}) {
        const StepPlan plan = memory.plan(tokens, 0);
        landmark_step(memory, text, tokens, answers);
        EXPECT_EQ(memory.resident_bytes(), memory.predict_bytes(memory.length()));
        EXPECT_EQ(memory.resident_bytes(), plan.settled_bytes);
        EXPECT_LE(plan.settled_bytes, plan.resident_bytes);
        most = std::max(most, plan.resident_bytes);
        EXPECT_EQ(memory.peak_bytes(), most);
      }
      EXPECT_EQ(memory.file_bytes() > 0, in_file);
      EXPECT_EQ(memory.forgotten(), ring == 0 ? 0 : ((608 - 19) / 8 - 5) * 8);
      memory.set_budget(memory.resident_bytes());
      EXPECT_NE(memory.plan(64, 0).refusal.find("more than the budget of"), std::string::npos);
    }
  }
}

TEST(LandmarkMemory, GoesOnPastTheContextWhereDistancesAreBounded) {
  MemoryShape shape = shape_of(2, 1, 8, RopePairs::kHalves);
  shape.context = 64;
  const LandmarkText text = landmark_text(shape, 300, 12);
  LandmarkMemory bounded = made(shape, heuristic(4, 3, 20));
  EXPECT_EQ(bounded.reach(), 20 + 4 - 2 + 4 * 4);
  EXPECT_TRUE(bounded.capabilities().beyond_context);
  EXPECT_LT(worst(landmark_answers(bounded, text, {300}),
                  NaiveLandmark(shape, bounded.options(), text).answers({300})),
            1e-5);
  LandmarkMemory wide = made(shape, heuristic(4, 10, 40));
  EXPECT_FALSE(wide.capabilities().beyond_context);
  EXPECT_EQ(
      wide.plan(65, 0).refusal,
      "the text is 1 tokens longer than the model's context of 64, and landmark reads rows at "
      "distances of up to 64");
  // The paper's chunk: what the context holds beside the fetched blocks.
  LandmarkMemory streaming = made(shape, chunked(5, 3, 0));
  EXPECT_EQ(streaming.options().chunk, 64 - 4 - 4 * 5);
  EXPECT_TRUE(streaming.capabilities().beyond_context);
  EXPECT_LT(worst(landmark_answers(streaming, text, {300}),
                  NaiveLandmark(shape, streaming.options(), text).answers({300})),
            1e-5);
}

TEST(LandmarkMemory, RefusesWhatCannotBe) {
  const MemoryShape shape = shape_of(2, 1, 8, RopePairs::kHalves);
  const auto refusal = [&](auto&& change) {
    LandmarkOptions options = chunked(5, 2);
    change(options);
    return error_of([&] { made(shape, options); });
  };
  EXPECT_EQ(refusal([](auto& o) { o.block = 1; }),
            "landmark memory: positions of a block must be at least 2, got 1");
  EXPECT_EQ(refusal([](auto& o) { o.top = 0; }),
            "landmark memory: blocks to fetch must be at least 1, got 0");
  EXPECT_EQ(refusal([](auto& o) { o.blocks = 1; }),
            "landmark memory: keeps 1 blocks, fewer than the 2 to fetch");
  EXPECT_EQ(refusal([](auto& o) { o.chunk = 4; }),
            "landmark memory: a chunk must hold a block of 5, got 4");
  EXPECT_EQ(refusal([](auto& o) { o.chunk = 0, o.top = 900; }),
            "landmark memory: 900 blocks of 5 to fetch are too many: the context of 4096 leaves no "
            "room for a chunk");
  EXPECT_EQ(
      refusal([](auto& o) { o.window = 9, o.selection = LandmarkSelection::kMaxOverTokens; }),
      "landmark memory: blocks are fetched for all queries of a chunk, and with a window of 9 "
      "there are no chunks");
  EXPECT_EQ(refusal([](auto& o) { o.dtype = DType::kQ4_0; }),
            "row block: rows are stored as F32 or F16, got Q4_0");
  EXPECT_EQ(refusal([](auto& o) { o.in_file = true, o.folder = "/nowhere"; }),
            "block store: no file can be made in '/nowhere': No such file or directory");
  MemoryShape windowed = shape;
  windowed.windows = {7};
  EXPECT_EQ(
      error_of([&] { made(windowed, chunked(5, 2)); }),
      "landmark memory: landmark tokens in a layer with a window of its own (7) have no meaning");

  LandmarkOptions together = chunked(5, 2);
  together.selection = LandmarkSelection::kMaxOverTokens;
  LandmarkMemory memory = made(shape, together);
  const LandmarkText text = landmark_text(shape, 40, 13);
  landmark_answers(memory, text, {40});
  EXPECT_FALSE(memory.capabilities().trim);
  EXPECT_EQ(error_of([&] { memory.trim(20); }),
            "trim: the queries before 20 read blocks chosen together with those after");
  LandmarkOptions ring = chunked(5, 2);
  ring.blocks = 3;
  LandmarkMemory short_of = made(shape, ring);
  landmark_answers(short_of, text, {40});
  EXPECT_EQ(
      error_of([&] { short_of.trim(20); }),
      "trim: layer 0 no longer holds block 1, which a query at 20 might read; its first is 5");
}

TEST(LandmarkMemory, ALoadedStateIsNotTrusted) {
  const MemoryShape shape = shape_of(2, 1, 8, RopePairs::kHalves);
  const LandmarkText text = landmark_text(shape, 40, 14);
  LandmarkMemory memory = made(shape, chunked(5, 2));
  landmark_answers(memory, text, {13});
  SavedState saved(memory);
  const auto refusal = [&](const LandmarkOptions& options, int64_t length) {
    LandmarkMemory other = made(shape, options);
    const std::string reason = error_of([&] { other.load_state(saved, length); });
    EXPECT_EQ(other.length(), 0);
    return reason;
  };
  LandmarkOptions with_id = chunked(5, 2);
  with_id.landmark_token = 31;
  EXPECT_NE(refusal(with_id, 13).find("was saved with 'block 5, landmark token -1,"),
            std::string::npos);
  MemoryShape other_base = shape;
  other_base.rotary[0].base = 10000;
  EXPECT_NE(
      error_of([&] { made(other_base, chunked(5, 2)).load_state(saved, 13); }).find("base 5000"),
      std::string::npos);
  const std::string bytes = std::to_string(saved.view("L0_open").shape[1]);
  EXPECT_EQ(refusal(chunked(5, 2), 10),
            "saved: L0_open is U8 [1, " + bytes + "], expected U8 [0, " + bytes + "]");
  EXPECT_EQ(refusal(chunked(5, 2), 17),
            "saved: L0_blocks is U8 [2, " + bytes + "], expected U8 [3, " + bytes + "]");
  std::vector<std::byte> damaged(static_cast<size_t>(saved.view("L0_blocks").bytes),
                                 std::byte{0xff});
  saved.view("L0_blocks").data = damaged.data();
  EXPECT_EQ(refusal(chunked(5, 2), 13), "saved: L0_blocks holds a number that is not finite");
  saved.view("L0_open").name = "gone";
  EXPECT_EQ(refusal(chunked(5, 2), 13), "saved: L0_open is missing");
}

}  // namespace
}  // namespace mneme
