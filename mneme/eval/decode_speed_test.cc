#include "mneme/eval/decode_speed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "mneme/cache/memory_registry.h"
#include "mneme/core/error.h"
#include "mneme/models/tiny_model_testing.h"

namespace mneme {
namespace {

TEST(DecodeSpeed, IsMeasuredWithoutTouchingTheSession) {
  testing::TinyModel tiny;  // context 256
  ThreadPool pool(1);
  Session session(tiny.model(), pool,
                  MemoryRegistry::builtin().build("full", tiny.model().memory_shape()));
  EXPECT_THROW(measure_decode_rate(session, 4), Error);
  session.append(tiny.tokens(100));
  const std::vector<float> logits(session.logits().begin(), session.logits().end());
  EXPECT_GT(measure_decode_rate(session, 4), 0);
  EXPECT_EQ(session.tokens().size(), 100u);
  EXPECT_TRUE(std::ranges::equal(session.logits(), logits));
  EXPECT_THROW(measure_decode_rate(session, 0), Error);
  session.append(tiny.tokens(153));
  EXPECT_GT(measure_decode_rate(session, 2), 0);
  EXPECT_EQ(measure_decode_rate(session, 3), 0);  // 253 + 4 do not fit
}

}  // namespace
}  // namespace mneme
