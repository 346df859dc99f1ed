#include "mneme/io/special_splitter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "mneme/core/error.h"
#include "mneme/core/rng.h"

namespace mneme {
namespace {

// Pieces of type control (3) or user-defined (4), with one text piece before them.
Vocabulary vocabulary_of(const std::vector<std::pair<std::string, int64_t>>& special) {
  VocabularyData data;
  data.origin = "small.gguf";
  data.pieces = {"text"};
  data.types = {1};
  for (const auto& [piece, type] : special) {
    data.pieces.push_back(piece);
    data.types.push_back(type);
  }
  return Vocabulary(data);
}

std::string shown(const std::vector<TextFragment>& fragments) {
  std::string out;
  for (const TextFragment& fragment : fragments) {
    out += out.empty() ? "" : "|";
    if (fragment.id >= 0) out += std::to_string(fragment.id) + ":";
    out += fragment.text;
  }
  return out;
}

TEST(SpecialSplitter, ControlPiecesStayTextUnlessParsed) {
  const Vocabulary vocabulary = vocabulary_of({{"<c>", 3}, {"<u>", 4}});
  const SpecialSplitter splitter(vocabulary);
  EXPECT_EQ(shown(splitter.split("a<c>b<u>", SpecialTokens::kParse)), "a|1:<c>|b|2:<u>");
  EXPECT_EQ(shown(splitter.split("a<c>b<u>", SpecialTokens::kAsText)), "a<c>b|2:<u>");
  EXPECT_EQ(shown(splitter.split("", SpecialTokens::kParse)), "");
  EXPECT_EQ(shown(splitter.split("<c", SpecialTokens::kParse)), "<c");
}

TEST(SpecialSplitter, LongerPiecesWinOverEarlierOnes) {
  const Vocabulary vocabulary = vocabulary_of({{"abc", 4}, {"cdef", 4}, {"ab", 4}});
  const SpecialSplitter splitter(vocabulary);
  EXPECT_EQ(shown(splitter.split("abcdef", SpecialTokens::kAsText)), "3:ab|2:cdef");
  EXPECT_EQ(shown(splitter.split("abcde", SpecialTokens::kAsText)), "1:abc|de");
}

TEST(SpecialSplitter, RunsAreTakenFromTheLeft) {
  const Vocabulary vocabulary = vocabulary_of({{"\n", 4}, {"\n\n", 4}, {"\n\n\n", 4}});
  const SpecialSplitter splitter(vocabulary);
  EXPECT_EQ(shown(splitter.split("\n\n\n\n\n\n\n\n", SpecialTokens::kAsText)),
            "3:\n\n\n|3:\n\n\n|2:\n\n");
}

// One pass over the text for each piece, the longest first, as the order is defined.
std::string split_slowly(const Vocabulary& vocabulary, const std::string& text) {
  std::vector<TextFragment> fragments;
  if (!text.empty()) fragments.push_back({text, -1});
  std::vector<int32_t> order;
  for (int32_t id = 1; id < vocabulary.size(); ++id) order.push_back(id);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return vocabulary.spelling(a).size() > vocabulary.spelling(b).size();
  });
  for (const int32_t id : order) {
    const std::string& piece = vocabulary.spelling(id);
    std::vector<TextFragment> next;
    for (TextFragment fragment : fragments) {
      while (fragment.id < 0) {
        const size_t at = fragment.text.find(piece);
        if (at == std::string::npos) break;
        if (at > 0) next.push_back({fragment.text.substr(0, at), -1});
        next.push_back({fragment.text.substr(at, piece.size()), id});
        fragment.text.remove_prefix(at + piece.size());
      }
      if (fragment.id >= 0 || !fragment.text.empty()) next.push_back(fragment);
    }
    fragments = next;
  }
  return shown(fragments);
}

TEST(SpecialSplitter, AgreesWithOnePassForEachPiece) {
  Rng rng(11);
  for (int round = 0; round < 500; ++round) {
    std::vector<std::pair<std::string, int64_t>> special;
    const auto random_text = [&](int64_t length) {
      std::string text;
      for (int64_t i = 0; i < length; ++i) text += "ab"[rng.below(2)];
      return text;
    };
    // Distinct lengths: between overlapping pieces of one length the order is our choice.
    for (int64_t length = 2; length <= 7; ++length)
      if (rng.below(2)) special.emplace_back(random_text(length), 4);
    const Vocabulary vocabulary = vocabulary_of(special);
    const SpecialSplitter splitter(vocabulary);
    for (int i = 0; i < 20; ++i) {
      const std::string text = random_text(rng.below(40));
      ASSERT_EQ(shown(splitter.split(text, SpecialTokens::kAsText)),
                split_slowly(vocabulary, text));
    }
  }
}

TEST(SpecialSplitter, RefusesASpecialPieceBeyondOneKibibyte) {
  const Vocabulary vocabulary = vocabulary_of({{std::string(1025, 'x'), 3}});
  try {
    SpecialSplitter splitter(vocabulary);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "small.gguf: special piece 1 has 1025 bytes, at most 1024 are accepted");
  }
}

}  // namespace
}  // namespace mneme
