// What both tokenizers share: the vocabulary, the special pieces in text, the repair of bad UTF-8.
// A tokenizer adds how plain text becomes ids and what bytes a text piece stands for.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "mneme/io/special_splitter.h"
#include "mneme/io/tokenizer.h"
#include "mneme/io/vocabulary.h"

namespace mneme {

class TokenizerBase : public Tokenizer {
 public:
  std::vector<int32_t> encode(std::string_view text,
                              SpecialTokens special = SpecialTokens::kAsText) const final;
  std::string piece(int32_t id, bool show_special = false) const final;

  int64_t vocabulary_size() const final { return vocabulary_.size(); }
  bool is_control(int32_t id) const final;
  int32_t bos() const final { return static_cast<int32_t>(vocabulary_.data().bos); }
  int32_t eos() const final { return static_cast<int32_t>(vocabulary_.data().eos); }
  int32_t unknown() const final { return static_cast<int32_t>(vocabulary_.data().unknown); }
  int32_t find(std::string_view text) const final { return vocabulary_.find(text); }
  bool adds_bos() const final { return vocabulary_.data().adds_bos; }
  bool ends_generation(int32_t id) const final { return vocabulary_.ends_generation(id); }

 protected:
  explicit TokenizerBase(VocabularyData data)
      : vocabulary_(std::move(data)), splitter_(vocabulary_) {}

  // The ids of `fragments`: special pieces, and between them valid UTF-8 without any.
  virtual std::vector<int32_t> encode_fragments(
      const std::vector<TextFragment>& fragments) const = 0;
  // The bytes of a normal or unused piece.
  virtual std::string text_piece(int32_t id) const = 0;

  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  Vocabulary vocabulary_;
  SpecialSplitter splitter_;
};

}  // namespace mneme
