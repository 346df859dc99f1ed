// A tokenizer for the tiny model of the tests (vocabulary 50): one token a character, letters
// without case. 0..25 letters, 26..35 digits, then " .,\n?:'-;!&" and, for anything else, the last
// one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "mneme/io/tokenizer.h"

namespace mneme::testing {

class CharacterTokenizer final : public Tokenizer {
 public:
  explicit CharacterTokenizer(int32_t bos = -1, int32_t end = -1) : bos_(bos), end_(end) {}

  std::vector<int32_t> encode(std::string_view text,
                              SpecialTokens = SpecialTokens::kAsText) const override {
    std::vector<int32_t> ids;
    for (char letter : text) {
      if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
      const size_t id = kCharacters.find(letter);
      ids.push_back(
          static_cast<int32_t>(id == std::string_view::npos ? kCharacters.size() - 1 : id));
    }
    return ids;
  }
  std::string piece(int32_t id, bool) const override {
    if (static_cast<size_t>(id) >= kCharacters.size()) return "#";
    return std::string(1, kCharacters[static_cast<size_t>(id)]);
  }
  std::string decode(const std::vector<int32_t>& ids, bool show) const override {
    std::string text;
    for (const int32_t id : ids) text += piece(id, show);
    return text;
  }
  int64_t vocabulary_size() const override { return 50; }
  bool is_control(int32_t id) const override { return id == end_; }
  int32_t bos() const override { return bos_; }
  int32_t eos() const override { return end_; }
  int32_t unknown() const override { return -1; }
  int32_t find(std::string_view text) const override {
    return text.size() == 1 ? static_cast<int32_t>(kCharacters.find(text)) : -1;
  }
  bool adds_bos() const override { return bos_ >= 0; }
  bool ends_generation(int32_t id) const override { return end_ >= 0 && id == end_; }
  uint64_t fingerprint() const override { return 50; }

 private:
  static constexpr std::string_view kCharacters =
      "abcdefghijklmnopqrstuvwxyz0123456789 .,\n?:'-;!&#";
  int32_t bos_, end_;
};

}  // namespace mneme::testing
