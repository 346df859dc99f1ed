#include "mneme/runtime/landmark_session.h"

#include <gtest/gtest.h>

#include "mneme/cache/memory_registry.h"
#include "mneme/models/tiny_model_testing.h"
#include "mneme/runtime/session.h"
#include "tests/support/error_of.h"

namespace mneme {
namespace {

using testing::error_of;
using testing::TinyModel;

constexpr int32_t kLandmark = 49;

std::unique_ptr<LandmarkMemory> memory_of(TinyModel& tiny, int64_t block, int64_t top) {
  return std::make_unique<LandmarkMemory>(
      "trained", tiny.model().memory_shape(),
      LandmarkOptions{.block = block, .top = top, .landmark_token = kLandmark});
}

// Tokens without the landmark.
std::vector<int32_t> user_tokens(TinyModel& tiny, int64_t count) {
  std::vector<int32_t> ids = tiny.tokens(count);
  for (int32_t& id : ids) id %= kLandmark;
  return ids;
}

TEST(LandmarkSession, InsertsALandmarkAfterEveryBlockAndCountsItsPosition) {
  TinyModel tiny;
  ThreadPool pool(1);
  LandmarkSession session(LandmarkSession::through(tiny.model(), pool), memory_of(tiny, 4, 2));
  std::vector<uint8_t> landmarks;
  const std::vector<int32_t> ids = {1, 2, 3, 4, 5, 6, 7};
  EXPECT_EQ(session.with_landmarks(ids, 0, landmarks),
            (std::vector<int32_t>{1, 2, 3, kLandmark, 4, 5, 6, kLandmark, 7}));
  EXPECT_EQ(landmarks, (std::vector<uint8_t>{0, 0, 0, 1, 0, 0, 0, 1, 0}));
  EXPECT_EQ(session.with_landmarks(ids, 6, landmarks),
            (std::vector<int32_t>{1, kLandmark, 2, 3, 4, kLandmark, 5, 6, 7, kLandmark}));
  const std::vector<float> logits = session.append(ids);
  EXPECT_EQ(logits.size(), 7u * 50);
  EXPECT_EQ(session.memory().length(), 9);
  EXPECT_EQ(LandmarkSession::positions_of(7, 4), 9);
  EXPECT_EQ(session.tokens(), ids);
}

TEST(LandmarkSession, StepsGiveTheSameLogitsWhileEveryBlockIsFetched) {
  TinyModel tiny;
  ThreadPool pool(2);
  const std::vector<int32_t> ids = user_tokens(tiny, 100);
  const auto logits = [&](int64_t chunk) {
    LandmarkSession session(LandmarkSession::through(tiny.model(), pool), memory_of(tiny, 6, 25));
    return session.append(ids, chunk);
  };
  const std::vector<float> whole = logits(0);
  for (const int64_t chunk : {1, 7, 64}) {
    const std::vector<float> parts = logits(chunk);
    ASSERT_EQ(parts.size(), whole.size());
    for (size_t i = 0; i < whole.size(); ++i)
      ASSERT_NEAR(parts[i], whole[i], 2e-3) << chunk << " " << i;
  }
}

// The heuristic needs no session of its own; everything near, it is full attention, whose rotation
// the model does itself.
TEST(LandmarkSession, WithoutLandmarkTokensAnOrdinarySessionRuns) {
  TinyModel tiny;
  ThreadPool pool(2);
  const auto logits = [&](const std::string& spec) {
    Session session(tiny.model(), pool,
                    MemoryRegistry::builtin().build(spec, tiny.model().memory_shape()));
    session.append(tiny.tokens(120), 50);
    return std::vector<float>(session.logits().begin(), session.logits().end());
  };
  const std::vector<float> full = logits("full(dtype=f32)");
  const std::vector<float> near = logits("landmark(block=16,window=200)+full(dtype=f32)");
  const std::vector<float> all = logits("landmark(block=16,window=1,top=50)+full(dtype=f32)");
  const std::vector<float> few = logits("landmark(block=16,window=1,top=1)+full(dtype=f32)");
  double few_differ = 0;
  for (size_t i = 0; i < full.size(); ++i) {
    EXPECT_NEAR(near[i], full[i], 2e-3);
    EXPECT_NEAR(all[i], full[i], 2e-3);
    few_differ = std::max<double>(few_differ, std::abs(few[i] - full[i]));
  }
  EXPECT_GT(few_differ, 0.01);
}

TEST(LandmarkSession, BatchesMayMixMemoriesThatTurnAndThatDoNot) {
  TinyModel tiny;
  ThreadPool pool(2);
  const auto built = [&](const std::string& spec) {
    return MemoryRegistry::builtin().build(spec, tiny.model().memory_shape());
  };
  const auto ids = tiny.tokens(40);
  const auto a = built("landmark(block=8,window=12,top=1)"), b = built("full");
  const SequenceStep both[] = {{ids, a.get(), Logits::kLast}, {ids, b.get(), Logits::kLast}};
  const auto rows = tiny.model().forward(both, pool);
  const std::vector<float> together(rows.begin(), rows.end());
  std::vector<float> apart;
  for (const char* spec : {"landmark(block=8,window=12,top=1)", "full"}) {
    const auto memory = built(spec);
    const SequenceStep step{ids, memory.get(), Logits::kLast};
    const auto row = tiny.model().forward({&step, 1}, pool);
    apart.insert(apart.end(), row.begin(), row.end());
  }
  EXPECT_EQ(together, apart);
}

TEST(LandmarkSession, RefusesBadInput) {
  TinyModel tiny;
  ThreadPool pool(1);
  const auto forward = LandmarkSession::through(tiny.model(), pool);
  LandmarkSession session(forward, memory_of(tiny, 4, 2));
  EXPECT_EQ(error_of([&] {
              session.append(std::vector<int32_t>{1, 2, kLandmark});
            }),
            "landmark session: token 2 is the landmark (49), which only the session inserts");
  EXPECT_EQ(session.memory().length(), 0);
  EXPECT_EQ(error_of([&] { session.append({}, -1); }),
            "landmark session: the chunk must not be negative, got -1");
  EXPECT_EQ(error_of([&] {
              LandmarkSession(forward, memory_of(tiny, 4, 2), {1, 2, 3});
            }),
            "landmark session: 3 tokens take 4 positions, the memory has 0");
  auto nameless = std::make_unique<LandmarkMemory>("nameless", tiny.model().memory_shape(),
                                                   LandmarkOptions{.block = 4});
  EXPECT_EQ(error_of([&] { LandmarkSession(forward, std::move(nameless)); }),
            "landmark session: the memory nameless names no landmark token");
}

}  // namespace
}  // namespace mneme
