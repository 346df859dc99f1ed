#include "mneme/runtime/generate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "mneme/cache/memory_registry.h"
#include "mneme/core/error.h"
#include "mneme/models/tiny_model_testing.h"
#include "tests/support/error_of.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::TinyModel;

// Fifty tokens, one letter each, and two that share a character's bytes.
class LetterTokenizer final : public Tokenizer {
 public:
  std::vector<int32_t> encode(std::string_view text, SpecialTokens) const override {
    std::vector<int32_t> ids;
    for (const char c : text) ids.push_back(c - 'A');
    return ids;
  }
  std::string piece(int32_t id, bool) const override {
    if (id == 48) return "\xc3";
    if (id == 49) return "\xa9";
    return std::string(1, static_cast<char>('A' + id));
  }
  std::string decode(const std::vector<int32_t>& ids, bool show) const override {
    std::string text;
    for (const int32_t id : ids) text += piece(id, show);
    return text;
  }
  int64_t vocabulary_size() const override { return 50; }
  bool is_control(int32_t) const override { return false; }
  int32_t bos() const override { return -1; }
  int32_t eos() const override { return end; }
  int32_t unknown() const override { return -1; }
  int32_t find(std::string_view) const override { return -1; }
  bool adds_bos() const override { return false; }
  bool ends_generation(int32_t id) const override { return id == end; }
  uint64_t fingerprint() const override { return 1; }

  int32_t end = -1;
};

class GenerateTest : public ::testing::Test {
 protected:
  Generation run(const GenerateOptions& options, const TextSink& sink = {},
                 const char* spec = "full", int64_t prompt_tokens = 30) {
    Session session(tiny_.model(), pool_,
                    MemoryRegistry::builtin().build(spec, tiny_.model().memory_shape()));
    return generate(session, tokenizer_, tiny_.tokens(prompt_tokens), options, sink);
  }

  TinyModel tiny_;
  ThreadPool pool_{1};
  LetterTokenizer tokenizer_;
};

TEST_F(GenerateTest, StreamsExactlyTheTextItReturns) {
  std::string streamed;
  const Generation result = run({.max_tokens = 40}, [&](std::string_view piece) {
    streamed += piece;
    return true;
  });
  EXPECT_EQ(streamed, result.text);
  EXPECT_EQ(result.tokens.size(), 40u);
  EXPECT_EQ(result.stop, StopReason::kLength);
  EXPECT_EQ(result.prompt_tokens, 30);
  EXPECT_EQ(result.reused_tokens, 0);
  EXPECT_GT(result.prefill_rate(), 0);
  EXPECT_GT(result.decode_rate(), 0);
}

TEST_F(GenerateTest, StopsAtTheEndTokenUnlessTold) {
  const Generation whole = run({.max_tokens = 20});
  tokenizer_.end = whole.tokens[7];
  const size_t first =
      static_cast<size_t>(std::ranges::find(whole.tokens, tokenizer_.end) - whole.tokens.begin());
  const Generation ended = run({.max_tokens = 20});
  EXPECT_EQ(ended.stop, StopReason::kEnd);
  EXPECT_EQ(ended.tokens, std::vector<int32_t>(whole.tokens.begin(),
                                               whole.tokens.begin() + static_cast<int64_t>(first)));
  EXPECT_EQ(run({.max_tokens = 20, .ignore_end = true}).tokens, whole.tokens);
}

TEST_F(GenerateTest, NoPartOfAStopStringIsEverStreamed) {
  const std::string whole = run({.max_tokens = 40}).text;
  for (const size_t at : {5, 12, 20}) {
    const std::string stop = whole.substr(at, 4);
    std::string streamed;
    const Generation result =
        run({.max_tokens = 40, .stop = {"no such text", stop}}, [&](std::string_view piece) {
          streamed += piece;
          return true;
        });
    EXPECT_EQ(result.stop, StopReason::kStopString);
    EXPECT_EQ(result.text, whole.substr(0, whole.find(stop)));
    EXPECT_EQ(streamed, result.text);
  }
}

TEST_F(GenerateTest, TheSinkCanCancel) {
  int pieces = 0;
  const Generation result = run({.max_tokens = 40}, [&](std::string_view) { return ++pieces < 3; });
  EXPECT_EQ(result.stop, StopReason::kCancelled);
  EXPECT_LE(result.tokens.size(), 6u);
}

TEST_F(GenerateTest, AFullContextEndsTheTextNotTheProgram) {
  const Generation result = run({.max_tokens = 1000, .ignore_end = true}, {}, "full", 250);
  EXPECT_EQ(result.stop, StopReason::kLength);
  EXPECT_EQ(result.tokens.size(), 6u);  // context 256
}

TEST_F(GenerateTest, RefusesBadOptions) {
  EXPECT_THAT(error_of([&] { run({.max_tokens = -1}); }),
              HasSubstr("max tokens must not be negative, got -1"));
  EXPECT_THAT(error_of([&] { run({.stop = {""}}); }), HasSubstr("stop strings must not be empty"));
  EXPECT_THAT(error_of([&] { run({.sampler = {.temperature = -2}}); }), HasSubstr("temperature"));
  EXPECT_THAT(error_of([&] { run({.chunk = -1}); }), HasSubstr("chunk must not be negative"));
  EXPECT_THAT(error_of([&] { run({}, {}, "full", 0); }), HasSubstr("at least one token"));
}

}  // namespace
}  // namespace mneme
