// SentencePiece BPE (`tokenizer.ggml.model = llama`: Llama 2, Gemma): blanks are spelled U+2581,
// the text begins as single characters, and the adjacent pair whose join is the piece with the
// highest score is joined, the leftmost of equals, until no join is a piece (Kudo and Richardson
// 2018). A character that is no piece becomes its bytes <0xNN>, or the unknown token where those
// are missing. Ids are those of llama.cpp, which also puts a blank before text that stands first or
// after a special token where the model asks for it (`add_space_prefix`).
//
// decode(encode(text)) is the text, except that U+2581 becomes a blank. Tests:
// spm_tokenizer_test.cc.
#pragma once

#include <bitset>
#include <string>
#include <string_view>
#include <vector>

#include "mneme/io/tokenizer_base.h"

namespace mneme {

class SpmTokenizer final : public TokenizerBase {
 public:
  // Throws Error when a byte piece and the unknown token are both missing: some text would have no
  // ids.
  SpmTokenizer(VocabularyData data, bool add_space_prefix);

  std::string decode(const std::vector<int32_t>& ids, bool show_special = false) const override;
  uint64_t fingerprint() const override;

 private:
  std::vector<int32_t> encode_fragments(const std::vector<TextFragment>& fragments) const override;
  std::string text_piece(int32_t id) const override;
  struct Scratch;

  // `text` with U+2581 for every blank, and one before it where the model asks for it.
  void append_spelled(std::string_view text, bool after_special, std::string& spelled) const;
  // Appends the ids of spelled text that no piece reaches across the ends of.
  void encode_word(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const;
  // End of the word at `begin`: before the next blank that no piece joins to what precedes it.
  size_t word_end(std::string_view spelled, size_t begin) const;
  // The text piece spelled `text`, or -1.
  int32_t find_text(std::string_view text) const;

  bool add_space_prefix_;
  std::bitset<256> joins_blank_;  // by last byte: characters that a blank follows in some piece
};

}  // namespace mneme
