#include "mneme/io/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "mneme/core/error.h"
#include "mneme/io/tokenizer_testing.h"

namespace mneme {
namespace {

using testing::GgufMetadata;
using ::testing::HasSubstr;
using testing::small_bpe;
using testing::small_spm;
using testing::SmallBpe;

GgufMetadata bpe_metadata(std::string_view pre) {
  const SmallBpe bpe = small_bpe();
  GgufMetadata metadata;
  metadata.text("tokenizer.ggml.model", "gpt2");
  if (!pre.empty()) metadata.text("tokenizer.ggml.pre", pre);
  metadata.texts("tokenizer.ggml.tokens", bpe.data.pieces);
  metadata.integers("tokenizer.ggml.token_type", bpe.data.types);
  metadata.texts("tokenizer.ggml.merges", bpe.merges);
  metadata.integer("tokenizer.ggml.bos_token_id", static_cast<uint32_t>(bpe.data.bos));
  metadata.integer("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(bpe.data.eos));
  return metadata;
}

std::unique_ptr<Tokenizer> load(const GgufMetadata& metadata) {
  std::string storage;
  return Tokenizer::from_gguf(*metadata.parse(storage));
}

std::string fault(const GgufMetadata& metadata) {
  try {
    load(metadata);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Tokenizer, ReadsBytePairEncodingFromGguf) {
  const auto tokenizer = load(bpe_metadata("smollm"));
  const SmallBpe bpe = small_bpe();
  const BpeTokenizer direct(bpe.data, bpe.merges, find_pretokenizer("smollm"));
  EXPECT_EQ(tokenizer->fingerprint(), direct.fingerprint());
  EXPECT_EQ(tokenizer->encode("hello the 1212"), direct.encode("hello the 1212"));
  EXPECT_EQ(tokenizer->vocabulary_size(), 275);
  EXPECT_EQ(tokenizer->bos(), tokenizer->find("<|im_start|>"));
  EXPECT_EQ(tokenizer->eos(), tokenizer->find("<|im_end|>"));
  EXPECT_EQ(tokenizer->unknown(), -1);
  EXPECT_FALSE(tokenizer->adds_bos());
}

TEST(Tokenizer, ThePreTokeniserDecidesWhetherPromptsBeginWithBos) {
  EXPECT_TRUE(load(bpe_metadata("llama-bpe"))->adds_bos());
  GgufMetadata metadata = bpe_metadata("llama-bpe");
  metadata.boolean("tokenizer.ggml.add_bos_token", false);
  EXPECT_FALSE(load(metadata)->adds_bos());
  EXPECT_EQ(load(bpe_metadata(""))->fingerprint(), load(bpe_metadata("default"))->fingerprint());
}

TEST(Tokenizer, ReadsSentencePieceFromGguf) {
  const VocabularyData data = small_spm();
  GgufMetadata metadata;
  metadata.text("tokenizer.ggml.model", "llama");
  metadata.texts("tokenizer.ggml.tokens", data.pieces);
  metadata.integers("tokenizer.ggml.token_type", data.types);
  metadata.reals("tokenizer.ggml.scores", data.scores);
  metadata.integer("tokenizer.ggml.bos_token_id", 1);
  metadata.integer("tokenizer.ggml.eos_token_id", 2);
  metadata.integer("tokenizer.ggml.unknown_token_id", 0);
  const auto prefixed = load(metadata);
  EXPECT_EQ(prefixed->fingerprint(), SpmTokenizer(data, true).fingerprint());
  EXPECT_TRUE(prefixed->adds_bos());
  metadata.boolean("tokenizer.ggml.add_space_prefix", false);
  metadata.integer("tokenizer.ggml.eot_token_id", 1);
  const auto plain = load(metadata);
  EXPECT_EQ(plain->decode(plain->encode(" a the")), " a the");
  EXPECT_TRUE(plain->ends_generation(1));
  EXPECT_FALSE(prefixed->ends_generation(1));
}

TEST(Tokenizer, RefusesModelsItDoesNotKnow) {
  GgufMetadata metadata;
  metadata.text("tokenizer.ggml.model", "bert");
  EXPECT_EQ(fault(metadata),
            "small.gguf: tokenizer model 'bert', expected 'gpt2' (byte-level BPE) or 'llama' "
            "(SentencePiece)");
  EXPECT_THAT(fault(bpe_metadata("tekken")),
              HasSubstr("small.gguf: unknown pre-tokeniser 'tekken'; known: default, smollm"));
  EXPECT_THAT(fault(GgufMetadata()), HasSubstr("tokenizer.ggml.model"));
}

TEST(Tokenizer, RefusesMissingAndBrokenVocabularies) {
  GgufMetadata metadata;
  metadata.text("tokenizer.ggml.model", "gpt2");
  EXPECT_THAT(fault(metadata), HasSubstr("tokenizer.ggml.tokens"));
  metadata.texts("tokenizer.ggml.tokens", {"a", "b"});
  EXPECT_THAT(fault(metadata), HasSubstr("tokenizer.ggml.merges"));
  metadata.texts("tokenizer.ggml.merges", {"a b"});
  EXPECT_EQ(fault(metadata), "small.gguf: merge 0 ('a b') needs 'ab', which is not a text piece");
  metadata.integers("tokenizer.ggml.token_type", {1});
  EXPECT_EQ(fault(metadata), "small.gguf: 1 token types for 2 pieces, expected one for each");

  GgufMetadata empty;
  empty.text("tokenizer.ggml.model", "llama");
  empty.texts("tokenizer.ggml.tokens", {});
  EXPECT_EQ(fault(empty), "small.gguf: the vocabulary is empty, expected at least one piece");

  GgufMetadata outside = bpe_metadata("smollm");
  outside.integer("tokenizer.ggml.eot_token_id", 275);
  EXPECT_EQ(fault(outside), "small.gguf: the end-of-turn token is 275, expected an id below 275");
}

}  // namespace
}  // namespace mneme
