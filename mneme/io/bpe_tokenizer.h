// Byte-level byte-pair encoding (`tokenizer.ggml.model = gpt2`): every byte is spelled as one
// printable character (GPT-2's table), words are cut out by a pre-tokeniser, and in each word the
// adjacent pair with the lowest merge rank is joined until none is left (Sennrich et al. 2016).
// Ids are those of llama.cpp. A byte that the vocabulary has no piece for is left out, as there
// (SmolLM2 lacks six control bytes and two lead bytes). Tests: bpe_tokenizer_test.cc.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "mneme/io/pretokenizer.h"
#include "mneme/io/tokenizer_base.h"

namespace mneme {

class BpeTokenizer final : public TokenizerBase {
 public:
  // `merges` are "left right", best first; both sides and their join must be text pieces. Throws
  // Error naming the merge otherwise; of two merges of one pair the first counts.
  BpeTokenizer(VocabularyData data, const std::vector<std::string>& merges,
               const PreTokenizerRule& rule);

  std::string decode(const std::vector<int32_t>& ids, bool show_special = false) const override;
  uint64_t fingerprint() const override { return fingerprint_; }

 private:
  // Pair of ids -> rank and joined id, open addressing.
  class MergeTable {
   public:
    struct Entry {
      uint64_t pair = ~uint64_t{0};
      int32_t rank = -1;
      int32_t joined = -1;
    };
    explicit MergeTable(size_t count);
    void add(int32_t left, int32_t right, int32_t rank, int32_t joined);
    const Entry* find(int32_t left, int32_t right) const;

   private:
    size_t slot(uint64_t pair) const;
    std::vector<Entry> entries_;
  };
  struct Scratch;

  std::vector<int32_t> encode_fragments(const std::vector<TextFragment>& fragments) const override;
  std::string text_piece(int32_t id) const override;
  void add_merges(const std::vector<std::string>& merges);
  void encode_word(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const;

  PreTokenizer rule_;
  bool ignore_merges_;
  MergeTable merges_;
  std::array<int32_t, 256> byte_ids_;
  uint64_t fingerprint_ = 0;
};

}  // namespace mneme
