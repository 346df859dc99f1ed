// Text to token ids and back. The vocabulary and its rules come from a model's GGUF file:
// byte-level BPE (`gpt2`) or SentencePiece (`llama`). Tests: tokenizer_test.cc,
// bpe_tokenizer_test.cc, spm_tokenizer_test.cc, tokenizer_fuzz.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "mneme/io/gguf.h"

namespace mneme {

// Whether control tokens spelled out in the text ("<|im_start|>") become those tokens, or stay
// text. Text from users always stays text; only what a chat template wrote itself may become
// control tokens.
enum class SpecialTokens { kAsText, kParse };

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Token ids of `text`. Invalid UTF-8 bytes are replaced by U+FFFD, one for each maximal bad
  // sequence. Linear time in |text| (times log for SentencePiece). Adds no beginning-of-text token:
  // see adds_bos().
  virtual std::vector<int32_t> encode(std::string_view text,
                                      SpecialTokens special = SpecialTokens::kAsText) const = 0;

  // The bytes of one token: a fragment that may end inside a UTF-8 character. Control tokens give
  // their name when `show_special`, else nothing. Throws Error for an id outside the vocabulary.
  virtual std::string piece(int32_t id, bool show_special = false) const = 0;

  // The text of ids in sequence (SentencePiece drops the leading blank that encode() added).
  virtual std::string decode(const std::vector<int32_t>& ids, bool show_special = false) const = 0;

  virtual int64_t vocabulary_size() const = 0;
  virtual bool is_control(int32_t id) const = 0;
  // Ids, or -1 where the model has none.
  virtual int32_t bos() const = 0;
  virtual int32_t eos() const = 0;
  virtual int32_t unknown() const = 0;
  // The id of the token spelled exactly `text` (control tokens included), or -1.
  virtual int32_t find(std::string_view text) const = 0;
  // Whether a prompt begins with bos().
  virtual bool adds_bos() const = 0;
  // Ends a generated turn: eos, and the end-of-turn token of the model's chat format.
  virtual bool ends_generation(int32_t id) const = 0;
  // A hash of vocabulary, merges and rules, for fingerprints.
  virtual uint64_t fingerprint() const = 0;

  // Builds the tokenizer that `file` describes. Throws Error naming the file and the fault.
  static std::unique_ptr<Tokenizer> from_gguf(const GgufFile& file);
};

// Joins token pieces into text for a screen: holds back the bytes of an unfinished UTF-8 character
// until it is whole.
class Utf8Stream {
 public:
  // Appends a fragment; returns the text that became complete.
  std::string push(std::string_view fragment);
  // What is left at the end, bad bytes replaced by U+FFFD.
  std::string finish();

 private:
  std::string pending_;
};

}  // namespace mneme
