#include "mneme/eval/kept_tokens.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "mneme/cache/memory_registry.h"
#include "mneme/cache/paged_memory.h"
#include "mneme/core/error.h"
#include "mneme/models/tiny_model_testing.h"
#include "mneme/runtime/session.h"

namespace mneme {
namespace {

class KeptTokensTest : public ::testing::Test {
 protected:
  Session after(const char* spec, int64_t tokens) {
    Session session(tiny_.model(), pool_,
                    MemoryRegistry::builtin().build(spec, tiny_.model().memory_shape()));
    session.append(tiny_.tokens(tokens));
    return session;
  }
  testing::TinyModel tiny_;
  ThreadPool pool_{1};
};

TEST_F(KeptTokensTest, CountsThePositionsOfTheRows) {
  for (const char* spec : {"snapkv(budget=0.3,window=8)", "cake(budget=0.25,window=8)",
                           "random(budget=0.5)", "sliding(window=20,sink=2)"}) {
    const bool sliding = std::string(spec).starts_with("sliding");
    for (const int64_t length : {63, 100, 200}) {
      const Session session = after(spec, length);
      const auto kept = kept_tokens(session.memory(), 16);
      ASSERT_TRUE(kept.has_value()) << spec << " " << length;
      EXPECT_EQ(kept->tokens, length);
      EXPECT_EQ(kept->bins, 16);
      const auto& memory = dynamic_cast<const PagedMemory&>(session.memory());
      std::vector<int32_t> of_token(static_cast<size_t>(length), 0);
      for (int64_t layer = 0; layer < 2; ++layer) {
        for (int64_t head = 0; head < 2; ++head) {
          const PagedRows& rows = memory.rows(layer, head);
          std::vector<int32_t> of_bin(16, 0);
          for (int64_t row = 0; row < rows.rows(); ++row) {
            const int32_t position = rows.position(row);
            // The next query stands at `length`: of a window of 20 it sees 19 and itself.
            if (sliding && position >= 2 && position < length - 19) continue;
            ++of_token[static_cast<size_t>(position)];
            for (int64_t bin = 0; bin < 16; ++bin)
              of_bin[static_cast<size_t>(bin)] +=
                  position >= bin * length / 16 && position < (bin + 1) * length / 16;
          }
          for (int64_t bin = 0; bin < 16; ++bin) {
            const auto index = static_cast<size_t>((layer * 2 + head) * 16 + bin);
            EXPECT_EQ(kept->of_bin[index], of_bin[static_cast<size_t>(bin)]);
            EXPECT_LE(kept->share(layer, head, bin), 1);
          }
        }
      }
      EXPECT_EQ(kept->of_token, of_token);
      if (!std::string(spec).starts_with("random")) {
        EXPECT_EQ(kept->share(length - 1), 1) << spec;
      }
    }
  }
}

TEST_F(KeptTokensTest, NothingWhereEverythingIsHeldOrChosenBefore) {
  EXPECT_FALSE(kept_tokens(after("full", 100).memory()).has_value());
  EXPECT_FALSE(kept_tokens(after("q4(group=32)", 100).memory()).has_value());
  EXPECT_FALSE(kept_tokens(after("gemfilter(layer=0,keep=20)", 100).memory()).has_value());
  EXPECT_FALSE(kept_tokens(after("landmark(block=16,window=16)", 100).memory()).has_value());
  EXPECT_FALSE(kept_tokens(*MemoryRegistry::builtin().build("full", tiny_.model().memory_shape())));
}

TEST_F(KeptTokensTest, AShortTextHasABinAToken) {
  const auto kept = kept_tokens(after("streaming(rows=4,sink=1)", 9).memory(), 64);
  ASSERT_TRUE(kept.has_value());
  EXPECT_EQ(kept->bins, 9);
  EXPECT_EQ(kept->share(0, 0, 0), 1);
  EXPECT_EQ(kept->share(0, 0, 3), 0);
  EXPECT_THROW(kept_tokens(after("full", 9).memory(), 0), Error);
}

}  // namespace
}  // namespace mneme
