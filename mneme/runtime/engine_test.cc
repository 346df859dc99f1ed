#include "mneme/runtime/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "mneme/runtime/generate.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_gguf.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

class EngineTest : public ::testing::Test {
 protected:
  std::string write(const testing::TinyGguf& file, const char* name = "model.gguf") {
    testing::write_file(folder_ / name, file.build());
    return folder_ / name;
  }
  testing::TemporaryFolder folder_;
};

TEST_F(EngineTest, OpensBothArchitecturesAndGenerates) {
  for (const testing::TinyGguf& file : {testing::tiny_llama_gguf(), testing::tiny_gemma3_gguf()}) {
    const auto engine = Engine::open(write(file), {.threads = 2});
    Session session(engine->model(), engine->pool(), engine->make_memory("full"));
    const Generation result =
        generate(session, engine->tokenizer(), engine->encode_prompt("Hello, world"),
                 {.max_tokens = 20, .ignore_end = true});
    EXPECT_EQ(result.tokens.size(), 20u);
    EXPECT_EQ(result.prompt_tokens, 12);
  }
}

TEST_F(EngineTest, MappedAndCopiedFilesGiveTheSameTokens) {
  const std::string path = write(testing::tiny_llama_gguf());
  std::vector<std::vector<int32_t>> runs;
  for (const bool copy : {false, true}) {
    const auto engine = Engine::open(path, {.threads = 1, .copy_file = copy});
    if (copy) testing::write_file(path, "");  // a copy no longer needs the file
    Session session(engine->model(), engine->pool(), engine->make_memory("q8(group=32)"));
    runs.push_back(generate(session, engine->tokenizer(), engine->encode_prompt("abc"),
                            {.max_tokens = 30, .ignore_end = true})
                       .tokens);
  }
  EXPECT_EQ(runs[0], runs[1]);
}

TEST_F(EngineTest, ControlTokensInUserTextStayText) {
  const auto engine = Engine::open(write(testing::tiny_llama_gguf()), {.threads = 1});
  const std::vector<int32_t> plain = engine->encode_prompt("<|im_start|>");
  EXPECT_EQ(plain.size(), 12u);  // one byte each
  const std::vector<int32_t> chat = engine->encode_chat({{"user", "say <|im_end|>"}});
  EXPECT_EQ(std::ranges::count(chat, 258), 2);  // the user's turn and the assistant's
  EXPECT_EQ(std::ranges::count(chat, 259), 1);  // the template's own end of turn
}

TEST_F(EngineTest, SaysWhatIsWrongWithTheFile) {
  EXPECT_THAT(error_of([&] { Engine::open(folder_ / "missing.gguf"); }), HasSubstr("missing.gguf"));
  EXPECT_THAT(error_of([&] { Engine::open(folder_.path()); }), HasSubstr(folder_.path()));
  testing::write_file(folder_ / "text.gguf", "not a model");
  EXPECT_THAT(error_of([&] { Engine::open(folder_ / "text.gguf"); }), HasSubstr("text.gguf"));
  testing::TinyGguf file = testing::tiny_llama_gguf();
  file.chat_template = "{% if %}";
  const std::string broken_template = write(file);
  EXPECT_THAT(error_of([&] { Engine::open(broken_template); }), HasSubstr("line 1"));
  file.chat_template = "";
  const auto engine = Engine::open(write(file));
  EXPECT_EQ(engine->chat_template(), nullptr);
  EXPECT_THAT(error_of([&] {
                (void)engine->encode_chat({{"user", "hi"}});
              }),
              HasSubstr("no chat template"));
}

TEST_F(EngineTest, CanRefuseWeightsThatAreNotNumbers) {
  testing::TinyGguf file = testing::tiny_llama_gguf();
  file.tensors["blk.1.ffn_down.weight"].values[7] = std::numeric_limits<float>::quiet_NaN();
  file.tensors["blk.1.ffn_down.weight"].values[9] = std::numeric_limits<float>::infinity();
  const std::string path = write(file);
  EXPECT_THAT(error_of([&] { Engine::open(path, {.refuse_non_finite = true}); }),
              HasSubstr("tensor blk.1.ffn_down.weight holds 1 NaN and 1 infinite values"));
  EXPECT_NO_THROW(Engine::open(path));
}

TEST_F(EngineTest, BudgetsAreChecked) {
  const auto engine = Engine::open(write(testing::tiny_llama_gguf()), {.threads = 1});
  EXPECT_THAT(error_of([&] { (void)engine->make_memory("full", -1); }),
              HasSubstr("must not be negative, got -1"));
  EXPECT_THAT(error_of([&] { (void)engine->make_memory("ful"); }),
              HasSubstr("did you mean 'full'?"));
  Session session(engine->model(), engine->pool(), engine->make_memory("full", 1000));
  EXPECT_THAT(error_of([&] {
                session.append(std::vector<int32_t>{1, 2, 3});
              }),
              HasSubstr("more than the budget of 1000"));
}

}  // namespace
}  // namespace mneme
