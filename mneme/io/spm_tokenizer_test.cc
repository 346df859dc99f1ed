#include "mneme/io/spm_tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "mneme/core/error.h"
#include "mneme/core/rng.h"
#include "mneme/io/tokenizer_testing.h"

namespace mneme {
namespace {

using testing::small_spm;

std::string pieces(const SpmTokenizer& tokenizer, std::string_view text,
                   SpecialTokens special = SpecialTokens::kAsText) {
  std::string out;
  for (const int32_t id : tokenizer.encode(text, special))
    out += (out.empty() ? "" : "|") + tokenizer.piece(id, true);
  return out;
}

TEST(SpmTokenizer, JoinsByScoreFromTheLeft) {
  const SpmTokenizer tokenizer(small_spm(), false);
  EXPECT_EQ(pieces(tokenizer, "hello"), "hello");
  EXPECT_EQ(pieces(tokenizer, "the hello"), "t|he| hello") << "'the' is a piece after a blank only";
  EXPECT_EQ(pieces(tokenizer, "a the"), "a| the");
  EXPECT_EQ(pieces(tokenizer, "fellow"), "f|e|ll|ow") << "'f' by its byte";
  EXPECT_EQ(pieces(tokenizer, "aaaaaaa"), "aaaa|aa|a");
  EXPECT_EQ(pieces(tokenizer, "     "), "    | ");
  EXPECT_EQ(pieces(tokenizer, "日本x"), "日本|x");
  EXPECT_EQ(tokenizer.encode("本"), (std::vector<int32_t>{4 + 0xE6, 4 + 0x9C, 4 + 0xAC}));
  EXPECT_EQ(tokenizer.encode(""), std::vector<int32_t>{});
}

TEST(SpmTokenizer, ThePrefixBlankGoesBeforeFirstTextAndAfterSpecialTokens) {
  const SpmTokenizer tokenizer(small_spm(), true);
  EXPECT_EQ(pieces(tokenizer, "the"), " the");
  EXPECT_EQ(pieces(tokenizer, "the<bos>the\n\n the", SpecialTokens::kParse),
            " the|<bos>| the|\n\n| | the");
  for (const char* text : {"the", " the", "  ", "a\n\n b\n\nc", "the<bos>the", ""}) {
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, SpecialTokens::kParse), true), text);
  }
}

// The definition: join the adjacent pair whose join has the highest score, the leftmost of equals.
std::string merge_slowly(const VocabularyData& data, std::vector<std::string> symbols) {
  std::map<std::string, double> scores;
  for (size_t id = 0; id < data.pieces.size(); ++id)
    if (data.types[id] == 1) scores[data.pieces[id]] = data.scores[id];
  for (;;) {
    double best = -1e300;
    size_t where = symbols.size();
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto found = scores.find(symbols[i] + symbols[i + 1]);
      if (found != scores.end() && found->second > best) best = found->second, where = i;
    }
    if (where == symbols.size()) break;
    symbols[where] += symbols[where + 1];
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(where) + 1);
  }
  std::string out;
  for (const std::string& symbol : symbols) out += (out.empty() ? "" : "|") + symbol;
  return out;
}

TEST(SpmTokenizer, AgreesWithTheDefinitionOnRandomVocabularies) {
  Rng rng(6);
  const std::string kLetters[] = {"a", "b", "▁"};
  for (int round = 0; round < 300; ++round) {
    VocabularyData data = small_spm();
    for (int i = 0; i < 10; ++i) {
      std::string piece;
      for (int64_t n = 2 + rng.below(3); n > 0; --n) piece += kLetters[rng.below(3)];
      if (std::find(data.pieces.begin(), data.pieces.end(), piece) != data.pieces.end()) continue;
      data.pieces.push_back(piece);
      data.types.push_back(1);
      data.scores.push_back(-static_cast<double>(rng.below(6)));
    }
    data.pieces.push_back("b");
    data.types.push_back(1);
    data.scores.push_back(-50.0);
    const SpmTokenizer tokenizer(data, false);
    for (int i = 0; i < 30; ++i) {
      std::vector<std::string> symbols;
      std::string text;
      for (int64_t n = 1 + rng.below(24); n > 0; --n) {
        symbols.push_back(kLetters[rng.below(3)]);
        text += symbols.back() == "▁" ? " " : symbols.back();
      }
      std::string spelled;
      for (const int32_t id : tokenizer.encode(text))
        spelled += (spelled.empty() ? "" : "|") + data.pieces[static_cast<size_t>(id)];
      ASSERT_EQ(spelled, merge_slowly(data, symbols)) << text;
    }
  }
}

TEST(SpmTokenizer, SpecialTextStaysTextUnlessParsed) {
  VocabularyData data = small_spm();
  const SpmTokenizer tokenizer(data, false);
  // "<eos" and ">" are pieces, so joining alone would give the control token.
  const auto plain = tokenizer.encode("<eos><0x41><unk>");
  for (const int32_t id : plain) EXPECT_FALSE(tokenizer.is_control(id)) << id;
  EXPECT_EQ(std::count(plain.begin(), plain.end(), 0), 0) << "nor the unknown token";
  EXPECT_EQ(tokenizer.decode(plain), "<eos><0x41><unk>");
  EXPECT_EQ(tokenizer.encode("<eos>a", SpecialTokens::kParse).front(), tokenizer.eos());
  EXPECT_EQ(pieces(tokenizer, "a\n\n\nb"), "a|\n\n|\n|b");
  EXPECT_TRUE(tokenizer.ends_generation(tokenizer.find("<end_of_turn>")));
  EXPECT_TRUE(tokenizer.ends_generation(tokenizer.eos()));
  EXPECT_FALSE(tokenizer.ends_generation(tokenizer.bos()));
  EXPECT_TRUE(tokenizer.adds_bos());
}

TEST(SpmTokenizer, HardTextsComeBackWhole) {
  for (const bool prefix : {false, true}) {
    const SpmTokenizer tokenizer(small_spm(), prefix);
    std::string marks;
    for (int i = 0; i < 1000; ++i) append_utf8(marks, static_cast<char32_t>(0x300 + i % 0x70));
    for (const std::string& text :
         {std::string("a\0b\0", 4), marks, std::string("\u200F\u05D0\u202E x"),
          std::string(1001, ' '), std::string("\r\n\t\v "),
          std::string("👩‍👩‍👧‍👦 日本語")})
      EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
    for (const std::string& text :
         {std::string("\xFF\xFE"), std::string("a\xED\xA0\x80z"), std::string("\xE2\x96")})
      EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), repair_utf8(text));
    EXPECT_EQ(tokenizer.decode(tokenizer.encode("a▁b")), "a b")
        << "U+2581 is how blanks are spelled";
  }
}

TEST(SpmTokenizer, OneWordOfAMegabyte) {
  Rng rng(9);
  std::string text;
  for (int i = 0; i < 1000000; ++i) text += "helotw"[rng.below(6)];
  const SpmTokenizer tokenizer(small_spm(), true);
  const auto ids = tokenizer.encode(text);
  EXPECT_LT(ids.size(), 950000u);
  EXPECT_EQ(tokenizer.decode(ids), text);
  EXPECT_EQ(tokenizer.encode(std::string(1000000, '\n')).size(), 500000u);
}

TEST(SpmTokenizer, TheUnknownTokenStandsForMissingBytes) {
  VocabularyData data = small_spm();
  data.pieces[4 + 'x'] = "xx";
  data.types[4 + 'x'] = 1;
  EXPECT_EQ(SpmTokenizer(data, false).encode("x"), std::vector<int32_t>{0});
  data.unknown = -1;
  try {
    SpmTokenizer tokenizer(data, false);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "small.gguf: no piece for byte 120 and no unknown token to stand for it");
  }
}

TEST(SpmTokenizer, FingerprintSeesThePrefixRule) {
  EXPECT_NE(SpmTokenizer(small_spm(), false).fingerprint(),
            SpmTokenizer(small_spm(), true).fingerprint());
}

}  // namespace
}  // namespace mneme
