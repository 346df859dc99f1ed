#include "mneme/io/vocabulary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "mneme/core/error.h"

namespace mneme {
namespace {

using ::testing::HasSubstr;

VocabularyData three_pieces() {
  VocabularyData data;
  data.origin = "bad.gguf";
  data.pieces = {"<s>", "<0x0A>", "a"};
  data.types = {3, 6, 1};
  data.scores = {0.0, -1.0, -2.0};
  data.bos = 0;
  return data;
}

std::string fault(const VocabularyData& data) {
  try {
    Vocabulary vocabulary(data);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Vocabulary, KnowsItsPieces) {
  const Vocabulary vocabulary(three_pieces());
  EXPECT_EQ(vocabulary.size(), 3);
  EXPECT_EQ(vocabulary.find("a"), 2);
  EXPECT_EQ(vocabulary.find("b"), -1);
  EXPECT_EQ(vocabulary.byte_id('\n'), 1);
  EXPECT_EQ(vocabulary.byte_id('\t'), -1);
  EXPECT_EQ(vocabulary.byte_value(1), '\n');
  EXPECT_FALSE(vocabulary.is_text(0));
  EXPECT_FALSE(vocabulary.is_text(1));
  EXPECT_TRUE(vocabulary.is_text(2));
  EXPECT_EQ(vocabulary.score(2), -2.0);
  EXPECT_THROW(vocabulary.spelling(3), Error);
  EXPECT_THROW(vocabulary.spelling(-1), Error);
}

TEST(Vocabulary, RefusesAnEmptyVocabulary) {
  VocabularyData data;
  data.origin = "bad.gguf";
  EXPECT_EQ(fault(data), "bad.gguf: the vocabulary is empty, expected at least one piece");
}

TEST(Vocabulary, RefusesArraysOfAnotherLength) {
  VocabularyData data = three_pieces();
  data.types.pop_back();
  EXPECT_EQ(fault(data), "bad.gguf: 2 token types for 3 pieces, expected one for each");
  data = three_pieces();
  data.scores.push_back(0.0);
  EXPECT_EQ(fault(data), "bad.gguf: 4 scores for 3 pieces, expected one for each");
}

TEST(Vocabulary, RefusesUnknownTypesAndScoresThatAreNoNumbers) {
  VocabularyData data = three_pieces();
  data.types[2] = 7;
  EXPECT_EQ(fault(data), "bad.gguf: piece 2 has token type 7, expected 1 to 6");
  data.types[2] = 0;
  EXPECT_EQ(fault(data), "bad.gguf: piece 2 has token type 0, expected 1 to 6");
  data = three_pieces();
  data.scores[1] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(fault(data), "bad.gguf: piece 1 has score nan, expected a finite number");
}

TEST(Vocabulary, RefusesGapsDuplicatesAndHugePieces) {
  VocabularyData data = three_pieces();
  data.pieces[2].clear();
  EXPECT_EQ(fault(data), "bad.gguf: piece 2 is empty");
  data.pieces[2] = "<s>";
  EXPECT_EQ(fault(data), "bad.gguf: piece '<s>' has two ids, 0 and 2");
  data.pieces[2] = std::string(65537, 'x');
  EXPECT_EQ(fault(data), "bad.gguf: piece 2 has 65537 bytes, at most 65536 are accepted");
  data.pieces[2] = std::string(65536, 'x');
  EXPECT_EQ(fault(data), "accepted");
}

TEST(Vocabulary, RefusesBytePiecesThatAreNoBytes) {
  for (const char* piece : {"<0x-1>", "<0xZZ>", "<0x1>", "<0x123>", "0x12", "<0x1G>", "<0X12>"}) {
    VocabularyData data = three_pieces();
    data.pieces[1] = piece;
    EXPECT_EQ(fault(data), std::string("bad.gguf: piece 1 is a byte spelled '") + piece +
                               "', expected <0xNN> with two hexadecimal digits");
  }
  VocabularyData data = three_pieces();
  data.pieces[2] = "<0x0a>";
  data.types[2] = 6;
  EXPECT_EQ(fault(data), "bad.gguf: pieces 1 and 2 both stand for the byte '<0x0a>'");
}

TEST(Vocabulary, RefusesSpecialIdsOutsideTheVocabulary) {
  VocabularyData data = three_pieces();
  data.bos = 3;
  EXPECT_EQ(fault(data), "bad.gguf: the beginning-of-text token is 3, expected an id below 3");
  data = three_pieces();
  data.eos = 4294967295;
  EXPECT_THAT(fault(data), HasSubstr("the end-of-text token is 4294967295"));
  data = three_pieces();
  data.unknown = -2;
  EXPECT_THAT(fault(data), HasSubstr("the unknown token is -2"));
  data = three_pieces();
  data.end_ids = {5};
  EXPECT_THAT(fault(data), HasSubstr("the end-of-turn token is 5"));
  data = three_pieces();
  data.bos = -1;
  data.adds_bos = true;
  EXPECT_EQ(fault(data),
            "bad.gguf: prompts begin with the beginning-of-text token, but none is named");
}

TEST(Vocabulary, GenerationEndsAtNamedAndWellKnownTokens) {
  VocabularyData data = three_pieces();
  data.pieces.insert(data.pieces.end(), {"<end_of_turn>", "</s>", "stop", "x"});
  data.types.insert(data.types.end(), {3, 4, 3, 1});
  data.scores.assign(7, 0.0);
  data.eos = 0;
  data.end_ids = {5};
  const Vocabulary vocabulary(data);
  const bool ends[] = {true, false, false, true, true, true, false};
  for (int64_t id = 0; id < 7; ++id) EXPECT_EQ(vocabulary.ends_generation(id), ends[id]) << id;
  EXPECT_FALSE(vocabulary.ends_generation(-1));
  EXPECT_FALSE(vocabulary.ends_generation(7));
  EXPECT_EQ(vocabulary.type(4), PieceType::kControl) << "whatever type the file gives </s>";
}

TEST(Vocabulary, FingerprintSeesEveryPart) {
  const uint64_t plain = Vocabulary(three_pieces()).fingerprint();
  EXPECT_EQ(Vocabulary(three_pieces()).fingerprint(), plain);
  std::vector<VocabularyData> changed(6, three_pieces());
  changed[0].pieces[2] = "b";
  changed[1].types[2] = 5;
  changed[2].scores[2] = -3.0;
  changed[3].eos = 2;
  changed[4].end_ids = {2};
  changed[5].adds_bos = true;
  for (const VocabularyData& data : changed) EXPECT_NE(Vocabulary(data).fingerprint(), plain);
}

}  // namespace
}  // namespace mneme
