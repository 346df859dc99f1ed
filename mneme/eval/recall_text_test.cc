#include "mneme/eval/recall_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "mneme/core/error.h"
#include "mneme/eval/tokenizer_testing.h"

namespace mneme {
namespace {

using testing::CharacterTokenizer;
using ::testing::HasSubstr;

std::string message(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(RecallText, HiddenTextsStandInOrderAtSentenceEnds) {
  const CharacterTokenizer tokenizer;
  const auto filler = tokenizer.encode("aa bb. cc dd. ee ff. gg hh. ii jj.");  // 34
  const RecallText text{.intro = "intro: ",
                        .hidden = {{1, " late."}, {0.5, " x."}, {0, " y."}, {0.45, " z."}},
                        .question = " what?",
                        .answer = "it"};
  // 28 of the 34 tokens of filler are left, which end behind "hh. ".
  const RecallCase recall = recall_case("test", tokenizer, text, filler, 28 + 28);
  EXPECT_EQ(tokenizer.decode(recall.prompt, false),
            "intro:  y.aa bb. cc dd. x. z. ee ff. gg hh.  late. what?");
  EXPECT_EQ(recall.prompt.size(), 56u);
  EXPECT_EQ(tokenizer.decode(recall.expected, false), " it");
  EXPECT_EQ(recall.answer, "it");
  // No filler at all.
  EXPECT_EQ(tokenizer.decode(recall_case("test", tokenizer, text, filler, 28).prompt, false),
            "intro:  late. x. y. z. what?");
}

TEST(RecallText, RefusesWhatDoesNotFit) {
  const CharacterTokenizer tokenizer;
  const RecallText text{.intro = "intro", .question = " what?", .answer = "it"};
  const auto filler = tokenizer.encode("aa bb.");
  EXPECT_THAT(message([&] { recall_case("test", tokenizer, text, filler, 10); }),
              HasSubstr("test: a prompt has at least 11 tokens, got 10"));
  EXPECT_THAT(message([&] { recall_case("test", tokenizer, text, filler, 18); }),
              HasSubstr("test: 7 tokens of filler are needed, got 6"));
  EXPECT_THAT(message([] { check_recall_options("test", {.lengths = {}}, false); }),
              HasSubstr("test: at least one length"));
  EXPECT_THAT(message([] { check_recall_options("test", {.depths = {}}, true); }),
              HasSubstr("and one depth"));
  EXPECT_EQ(message([] { check_recall_options("test", {.depths = {}}, false); }), "accepted");
  EXPECT_THAT(message([] { check_recall_options("test", {.depths = {-0.1}}, true); }),
              HasSubstr("0 to 1, got -0.1"));
}

TEST(RecallText, FillerIsAsLongAsTheLongestPrompt) {
  const CharacterTokenizer tokenizer(49);
  EXPECT_EQ(recall_filler(tokenizer, {.lengths = {50, 700}}).size(), 700u);
  const auto own = recall_filler(tokenizer, {.lengths = {30}, .haystack = "short."});
  EXPECT_EQ(tokenizer.decode(own, false).substr(0, 14), "short.\n\nshort.");
  EXPECT_EQ(intro_tokens(tokenizer, "a"), (std::vector<int32_t>{49, 0}));
}

}  // namespace
}  // namespace mneme
