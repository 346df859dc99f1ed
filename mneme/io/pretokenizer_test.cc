#include "mneme/io/pretokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "mneme/core/error.h"
#include "mneme/core/rng.h"
#include "mneme/io/utf8.h"

namespace mneme {
namespace {

using Words = std::vector<std::string>;

Words split(PreTokenizer rule, std::string_view text) {
  Words words;
  pretokenize(rule, text, [&](std::string_view word) { words.emplace_back(word); });
  return words;
}

TEST(PreTokenizer, Gpt2SplitsWordsNumbersMarksAndBlanks) {
  const auto gpt2 = [](std::string_view text) { return split(PreTokenizer::kGpt2, text); };
  EXPECT_EQ(gpt2(""), Words{});
  EXPECT_EQ(gpt2("Hello, world 123!"), (Words{"Hello", ",", " world", " 123", "!"}));
  EXPECT_EQ(gpt2("I'll it's we've'd X'S"),
            (Words{"I", "'ll", " it", "'s", " we", "'ve", "'d", " X", "'", "S"}));
  EXPECT_EQ(gpt2("'"), (Words{"'"}));
  EXPECT_EQ(gpt2("a'r"), (Words{"a", "'", "r"}));
  EXPECT_EQ(gpt2("a   b"), (Words{"a", "  ", " b"}));
  EXPECT_EQ(gpt2("a \t\nb"), (Words{"a", " \t", "\n", "b"}));
  EXPECT_EQ(gpt2("a\n"), (Words{"a", "\n"}));
  EXPECT_EQ(gpt2("a   "), (Words{"a", "   "}));
  EXPECT_EQ(gpt2(" 's"), (Words{" '", "s"}));
  EXPECT_EQ(gpt2("日本語 ٣٤x½"), (Words{"日本語", " ٣٤", "x", "½"}));
  EXPECT_EQ(gpt2("e\u0301 \u0301"), (Words{"e", "\u0301", " \u0301"}))
      << "combining marks are neither letters nor blanks";
  EXPECT_EQ(gpt2("a\u00A0b\u3000"), (Words{"a", "\u00A0", "b", "\u3000"}));
  EXPECT_EQ(gpt2(std::string("a\0b", 3)), (Words{"a", std::string(1, '\0'), "b"}));
}

TEST(PreTokenizer, SmolLmTakesEveryDigitAlone) {
  const auto smollm = [](std::string_view text) { return split(PreTokenizer::kSmolLm, text); };
  EXPECT_EQ(smollm("in 1999, ٣½"), (Words{"in", " ", "1", "9", "9", "9", ",", " ", "٣", "½"}));
  EXPECT_EQ(smollm("a  7 b"), (Words{"a", "  ", "7", " b"})) << "the part before the digit ends";
  EXPECT_EQ(smollm("x'5s"), (Words{"x", "'", "5", "s"}));
}

TEST(PreTokenizer, DefaultSplitsMarksFirstAndDigitsInThrees) {
  const auto words = [](std::string_view text) { return split(PreTokenizer::kDefault, text); };
  EXPECT_EQ(words("12345 1234567"), (Words{"123", "45", " ", "123", "456", "7"}));
  EXPECT_EQ(words("it's a $5"), (Words{"it", "'", "s", " a", " ", "$", "5"}));
  EXPECT_EQ(words("a, b<=c `x`"), (Words{"a", ",", " b", "<=", "c", " `", "x", "`"}))
      << "the backquote is no mark of this rule";
  EXPECT_EQ(words("1٣234"), (Words{"1٣", "234"}));
}

TEST(PreTokenizer, Llama3KeepsOneMarkWithTheWordAndLineBreaksWithMarks) {
  const auto words = [](std::string_view text) { return split(PreTokenizer::kLlama3, text); };
  EXPECT_EQ(words("(foo)\tbar WE'LL"), (Words{"(foo", ")", "\tbar", " WE", "'LL"}));
  EXPECT_EQ(words("12345 6"), (Words{"123", "45", " ", "6"}));
  EXPECT_EQ(words("a;\n\n  b"), (Words{"a", ";\n\n", " ", " b"}));
  EXPECT_EQ(words("a \n \n  b"), (Words{"a", " \n \n", " ", " b"}));
  EXPECT_EQ(words("\nfoo"), (Words{"\n", "foo"}));
  EXPECT_EQ(words("a !? "), (Words{"a", " !?", " "}));
}

TEST(PreTokenizer, Qwen2IsLlama3WithSingleDigits) {
  EXPECT_EQ(split(PreTokenizer::kQwen2, "(a) 123"), (Words{"(a", ")", " ", "1", "2", "3"}));
}

TEST(PreTokenizer, WordsJoinToTheTextForEveryRule) {
  Rng rng(3);
  constexpr char32_t kCharacters[] = {
      'a', 'S', '\'', 's',  'l',  '1',  '2',   ' ',   ' ',    '\n',   '\r',   '\t',     '.',
      '$', '`', 0,    0x85, 0xA0, 0xE4, 0x301, 0x663, 0x200F, 0x3000, 0x65E5, 0x10FFFF, 0x1F600};
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (int64_t i = rng.below(20); i > 0; --i)
      append_utf8(text, kCharacters[rng.below(std::size(kCharacters))]);
    for (PreTokenizer rule : {PreTokenizer::kGpt2, PreTokenizer::kSmolLm, PreTokenizer::kDefault,
                              PreTokenizer::kLlama3, PreTokenizer::kQwen2}) {
      std::string joined;
      for (const std::string& word : split(rule, text)) {
        ASSERT_FALSE(word.empty());
        joined += word;
      }
      ASSERT_EQ(joined, text);
    }
  }
}

TEST(PreTokenizer, RefusesAnUnknownNameWithTheKnownOnes) {
  EXPECT_EQ(find_pretokenizer("smollm").rule, PreTokenizer::kSmolLm);
  EXPECT_TRUE(find_pretokenizer("llama-bpe").ignore_merges);
  try {
    find_pretokenizer("tekken");
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(),
                ::testing::HasSubstr("unknown pre-tokeniser 'tekken'; known: default, smollm"));
  }
}

}  // namespace
}  // namespace mneme
