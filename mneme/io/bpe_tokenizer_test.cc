#include "mneme/io/bpe_tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "mneme/core/error.h"
#include "mneme/core/rng.h"
#include "mneme/io/tokenizer_testing.h"

namespace mneme {
namespace {

using testing::bpe_spelling;
using testing::small_bpe;
using testing::SmallBpe;

BpeTokenizer make(std::string_view rule, const SmallBpe& bpe = small_bpe()) {
  return BpeTokenizer(bpe.data, bpe.merges, find_pretokenizer(rule));
}

// The pieces of `text`, bytes as they are, joined by '|'.
std::string pieces(const Tokenizer& tokenizer, std::string_view text,
                   SpecialTokens special = SpecialTokens::kAsText) {
  std::string out;
  for (const int32_t id : tokenizer.encode(text, special))
    out += (out.empty() ? "" : "|") + tokenizer.piece(id, true);
  return out;
}

TEST(BpeTokenizer, MergesByRankInsideWords) {
  const BpeTokenizer tokenizer = make("gpt-2");
  EXPECT_EQ(pieces(tokenizer, "hello the fellow"), "hello| the| |f|e|llow");
  EXPECT_EQ(pieces(tokenizer, "aaaaaaa"), "aaaa|aa|a") << "equal ranks join from the left";
  EXPECT_EQ(pieces(tokenizer, "1212"), "12|12");
  EXPECT_EQ(pieces(tokenizer, "ä"), "ä");
  EXPECT_EQ(pieces(tokenizer, "it's"), "i|t|'s");
  EXPECT_EQ(tokenizer.encode(""), std::vector<int32_t>{});
}

TEST(BpeTokenizer, TheRuleDecidesWhatMayMerge) {
  EXPECT_EQ(pieces(make("smollm"), "1212"), "1|2|1|2");
  EXPECT_EQ(pieces(make("default"), "12121"), "12|1|2|1");
}

TEST(BpeTokenizer, IgnoringMergesTakesWholeWordsFirst) {
  SmallBpe bpe = small_bpe();
  bpe.data.pieces.push_back("fellow");  // no merge makes it
  bpe.data.types.push_back(1);
  EXPECT_EQ(pieces(make("llama-bpe", bpe), "fellow"), "fellow");
  EXPECT_EQ(pieces(make("dbrx", bpe), "fellow"), "f|e|llow");
}

// The definition: join the adjacent pair of the lowest rank, the leftmost of equals, until none.
std::vector<std::string> merge_slowly(std::vector<std::string> symbols,
                                      const std::vector<std::string>& merges) {
  for (;;) {
    size_t best = merges.size(), where = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto found = std::find(merges.begin(), merges.end(), symbols[i] + " " + symbols[i + 1]);
      const auto rank = static_cast<size_t>(found - merges.begin());
      if (rank < best) best = rank, where = i;
    }
    if (best == merges.size()) return symbols;
    symbols[where] += symbols[where + 1];
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(where) + 1);
  }
}

TEST(BpeTokenizer, AgreesWithTheDefinitionOnRandomVocabularies) {
  Rng rng(5);
  for (int round = 0; round < 200; ++round) {
    SmallBpe bpe = small_bpe();
    bpe.merges.clear();
    std::vector<std::string> known = {"a", "b", "c"};
    for (int i = 0; i < 12; ++i) {
      const std::string left = known[static_cast<size_t>(rng.below(std::ssize(known)))];
      const std::string right = known[static_cast<size_t>(rng.below(std::ssize(known)))];
      bpe.merges.push_back(left + " " + right);
      const std::string joined = left + right;
      if (std::find(bpe.data.pieces.begin(), bpe.data.pieces.end(), joined) ==
          bpe.data.pieces.end()) {
        bpe.data.pieces.push_back(joined);
        bpe.data.types.push_back(1);
        known.push_back(joined);
      }
    }
    const BpeTokenizer tokenizer = make("gpt-2", bpe);
    for (int i = 0; i < 20; ++i) {
      std::vector<std::string> letters;
      std::string word;
      for (int64_t n = 1 + rng.below(30); n > 0; --n) {
        letters.push_back(std::string(1, "abc"[rng.below(3)]));
        word += letters.back();
      }
      std::string expected;
      for (const std::string& symbol : merge_slowly(letters, bpe.merges))
        expected += (expected.empty() ? "" : "|") + symbol;
      ASSERT_EQ(pieces(tokenizer, word), expected);
    }
  }
}

TEST(BpeTokenizer, SpecialTextStaysTextUnlessParsed) {
  const BpeTokenizer tokenizer = make("smollm");
  const int32_t start = tokenizer.find("<|im_start|>");
  const std::string text = "a<|im_start|>b<tool>";
  const auto plain = tokenizer.encode(text);
  EXPECT_EQ(std::count(plain.begin(), plain.end(), start), 0);
  EXPECT_EQ(tokenizer.decode(plain), text);
  EXPECT_EQ(pieces(tokenizer, text), "a|<||im|_|s|t|a|r|t|||>|b|<tool>")
      << "user-defined pieces are matched in any text";
  EXPECT_EQ(pieces(tokenizer, text, SpecialTokens::kParse), "a|<|im_start|>|b|<tool>");
  EXPECT_TRUE(tokenizer.is_control(start));
  EXPECT_FALSE(tokenizer.is_control(tokenizer.find("<tool>")));
  EXPECT_EQ(tokenizer.decode({start}), "");
  EXPECT_EQ(tokenizer.decode({start}, true), "<|im_start|>");
  EXPECT_TRUE(tokenizer.ends_generation(tokenizer.find("<|im_end|>")));
  EXPECT_FALSE(tokenizer.ends_generation(start));
}

// A whole word that spells a control token must not become it either.
TEST(BpeTokenizer, WholeWordsNeverGiveControlTokens) {
  SmallBpe bpe = small_bpe();
  bpe.data.pieces.push_back("stop");
  bpe.data.types.push_back(3);
  EXPECT_EQ(pieces(make("llama-bpe", bpe), "stop"), "s|t|o|p");
}

TEST(BpeTokenizer, HardTextsComeBackWhole) {
  for (const char* rule : {"gpt-2", "smollm", "default", "llama-bpe", "qwen2"}) {
    const BpeTokenizer tokenizer = make(rule);
    std::string marks, rtl;
    for (int i = 0; i < 1000; ++i) {
      append_utf8(marks, static_cast<char32_t>(0x300 + i % 0x70));
      append_utf8(rtl, i % 3 ? 0x5D0 : 0x200F + static_cast<char32_t>(i % 2) * 0x1F);
    }
    for (const std::string& text :
         {std::string("a\0b\0", 4), marks, rtl, std::string(1000, ' '), std::string("\r\n\t\v "),
          std::string("👩‍👩‍👧‍👦🇩🇪 ﷽ 日本語")})
      EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text) << rule;
    for (const std::string& text :
         {std::string("\xFF\xFE"), std::string("a\xED\xA0\x80z"), std::string("\xF0\x9F")})
      EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), repair_utf8(text)) << rule;
  }
}

// A megabyte that is one word: with a scan of all pairs for each join this would take hours.
TEST(BpeTokenizer, OneWordOfAMegabyte) {
  Rng rng(9);
  std::string text;
  for (int i = 0; i < 1000000; ++i) text += "helotw"[rng.below(6)];
  const BpeTokenizer tokenizer = make("gpt-2");
  const auto ids = tokenizer.encode(text);
  EXPECT_LT(ids.size(), 950000u);
  EXPECT_EQ(tokenizer.decode(ids), text);
  EXPECT_EQ(tokenizer.encode(std::string(1000000, 'a')).size(), 250000u);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(std::string(1000000, '\n'))).size(), 1000000u);
}

TEST(BpeTokenizer, BytesWithoutAPieceAreLeftOut) {
  SmallBpe bpe = small_bpe();
  bpe.data.pieces[4] = "unrelated";
  const BpeTokenizer tokenizer = make("smollm", bpe);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("a\x04z")), "az");
}

TEST(BpeTokenizer, RefusesBadMerges) {
  const auto fault = [](const std::string& merge) -> std::string {
    SmallBpe bpe = small_bpe();
    bpe.data.pieces.push_back("|im_start|>");
    bpe.data.types.push_back(1);
    bpe.merges.push_back(merge);
    try {
      make("gpt-2", bpe);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(fault("h e"), "accepted") << "of two merges of one pair the first counts";
  EXPECT_EQ(fault("xyz e"),
            "small.gguf: merge 16 ('xyz e') needs 'xyz', which is not a text piece");
  EXPECT_EQ(fault("e xyz"),
            "small.gguf: merge 16 ('e xyz') needs 'xyz', which is not a text piece");
  EXPECT_EQ(fault("x y"), "small.gguf: merge 16 ('x y') needs 'xy', which is not a text piece");
  EXPECT_EQ(
      fault("< |im_start|>"),
      "small.gguf: merge 16 ('< |im_start|>') needs '<|im_start|>', which is not a text piece")
      << "text must not merge into a control token";
  for (const char* merge : {"", "he", " he", "he ", "h e l"})
    EXPECT_EQ(fault(merge), std::string("small.gguf: merge 16 is '") + merge +
                                "', expected two pieces with one blank between them");
}

TEST(BpeTokenizer, RefusesIdsOutsideTheVocabulary) {
  const BpeTokenizer tokenizer = make("gpt-2");
  for (const int32_t id : {-1, 275, 1 << 30}) {
    EXPECT_THROW(tokenizer.piece(id), Error);
    EXPECT_THROW(tokenizer.is_control(id), Error);
    try {
      tokenizer.decode({0, id});
      FAIL() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.what(),
                "token " + std::to_string(id) + " is outside the vocabulary of 275 pieces");
    }
  }
}

TEST(BpeTokenizer, FingerprintSeesMergesAndRule) {
  SmallBpe bpe = small_bpe();
  const uint64_t plain = make("gpt-2").fingerprint();
  EXPECT_EQ(make("gpt-2").fingerprint(), plain);
  EXPECT_NE(make("smollm").fingerprint(), plain);
  std::swap(bpe.merges[0], bpe.merges[1]);
  EXPECT_NE(make("gpt-2", bpe).fingerprint(), plain);
}

}  // namespace
}  // namespace mneme
