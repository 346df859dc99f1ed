// Small vocabularies and GGUF metadata for the tests and the fuzzer of the tokenizers.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "mneme/io/bpe_tokenizer.h"
#include "mneme/io/gguf.h"
#include "mneme/io/spm_tokenizer.h"
#include "mneme/io/utf8.h"

namespace mneme::testing {

// `bytes` as GPT-2 spells them: printable Latin-1 as it is, the rest numbered from U+0100.
inline std::string bpe_spelling(std::string_view bytes) {
  std::string spelled;
  for (const char c : bytes) {
    const int byte = static_cast<uint8_t>(c);
    const auto hidden = [](int b) { return b <= 0x20 || (b >= 0x7F && b <= 0xA0) || b == 0xAD; };
    int code = byte;
    if (hidden(byte)) {
      code = 256;
      for (int b = 0; b < byte; ++b) code += hidden(b);
    }
    append_utf8(spelled, static_cast<char32_t>(code));
  }
  return spelled;
}

// Ids 0 to 255 are the bytes; then one piece a merge; then <|im_start|>, <|im_end|> (control) and
// <tool> (user-defined).
struct SmallBpe {
  VocabularyData data;
  std::vector<std::string> merges;
};

inline SmallBpe small_bpe() {
  SmallBpe bpe;
  bpe.data.origin = "small.gguf";
  for (int byte = 0; byte < 256; ++byte)
    bpe.data.pieces.push_back(bpe_spelling(std::string(1, static_cast<char>(byte))));
  const char* const kMerges[][2] = {{"l", "l"},   {"h", "e"}, {" ", "t"},    {"he", "ll"},
                                    {" t", "he"}, {"o", "w"}, {"hell", "o"}, {"1", "2"},
                                    {" ", " "},   {"a", "a"}, {"aa", "aa"},  {"\xC3", "\xA4"},
                                    {"ll", "ow"}, {"<", "|"}, {"i", "m"},    {"'", "s"}};
  for (const auto& [left, right] : kMerges) {
    bpe.merges.push_back(bpe_spelling(left) + " " + bpe_spelling(right));
    bpe.data.pieces.push_back(bpe_spelling(std::string(left) + right));
  }
  bpe.data.types.assign(bpe.data.pieces.size(), 1);
  bpe.data.pieces.insert(bpe.data.pieces.end(), {"<|im_start|>", "<|im_end|>", "<tool>"});
  bpe.data.types.insert(bpe.data.types.end(), {3, 3, 4});
  bpe.data.bos = static_cast<int64_t>(bpe.data.pieces.size()) - 3;
  bpe.data.eos = bpe.data.bos + 1;
  return bpe;
}

// Ids 0 to 3: <unk>, <bos>, <eos>, <end_of_turn>; 4 to 259: the bytes; 260: user-defined "\n\n";
// then text pieces with falling scores.
inline VocabularyData small_spm() {
  VocabularyData data;
  data.origin = "small.gguf";
  data.pieces = {"<unk>", "<bos>", "<eos>", "<end_of_turn>"};
  data.types = {2, 3, 3, 3};
  data.scores.assign(4, 0.0);
  for (int byte = 0; byte < 256; ++byte) {
    constexpr std::string_view kHex = "0123456789ABCDEF";
    data.pieces.push_back(std::string("<0x") + kHex[static_cast<size_t>(byte / 16)] +
                          kHex[static_cast<size_t>(byte % 16)] + ">");
    data.types.push_back(6);
    data.scores.push_back(0.0);
  }
  data.pieces.push_back("\n\n");
  data.types.push_back(4);
  data.scores.push_back(-1000.0);
  const char* const kPieces[] = {"he",   "▁t",  "▁the", "ll", "hell", "hello", "▁▁",     "▁▁▁▁",
                                 "low",  "ow",  ">▁<",  "aa", "aaaa", "ä",     "▁hello", "<s",
                                 "<eos", "os>", "▁",    "h",  "e",    "l",     "o",      "w",
                                 "t",    "a",   "<",    ">",  "s",    "日",    "日本"};
  double score = 0.0;
  for (const char* piece : kPieces) {
    data.pieces.push_back(piece);
    data.types.push_back(1);
    data.scores.push_back(score -= 1.0);
  }
  data.unknown = 0;
  data.bos = 1;
  data.eos = 2;
  data.adds_bos = true;
  return data;
}

// The bytes of a GGUF v3 file with metadata and no tensors.
class GgufMetadata {
 public:
  void text(std::string_view key, std::string_view value) {
    begin(key, 8);
    string(value);
  }
  void integer(std::string_view key, uint32_t value) {
    begin(key, 4);
    number(value);
  }
  void boolean(std::string_view key, bool value) {
    begin(key, 7);
    number(static_cast<uint8_t>(value));
  }
  void texts(std::string_view key, const std::vector<std::string>& values) {
    begin_array(key, 8, values.size());
    for (const std::string& value : values) string(value);
  }
  void integers(std::string_view key, const std::vector<int64_t>& values) {
    begin_array(key, 5, values.size());
    for (const int64_t value : values) number(static_cast<int32_t>(value));
  }
  void reals(std::string_view key, const std::vector<double>& values) {
    begin_array(key, 6, values.size());
    for (const double value : values) number(static_cast<float>(value));
  }
  std::string bytes() const {
    std::string file = "GGUF";
    append(file, uint32_t{3});
    append(file, uint64_t{0});
    append(file, count_);
    file += body_;
    file.resize((file.size() + 31) / 32 * 32);
    return file;
  }
  // The file keeps pointing into `storage`.
  std::unique_ptr<GgufFile> parse(std::string& storage) const {
    storage = bytes();
    return GgufFile::parse(reinterpret_cast<const std::byte*>(storage.data()),
                           static_cast<int64_t>(storage.size()), "small.gguf");
  }

 private:
  template <typename T>
  static void append(std::string& out, T value) {
    char raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof(T));
    out.append(raw, sizeof(T));
  }
  template <typename T>
  void number(T value) {
    append(body_, value);
  }
  void string(std::string_view value) {
    number(uint64_t{value.size()});
    body_ += value;
  }
  void begin(std::string_view key, uint32_t type) {
    ++count_;
    string(key);
    number(type);
  }
  void begin_array(std::string_view key, uint32_t element_type, uint64_t count) {
    begin(key, 9);
    number(element_type);
    number(count);
  }

  std::string body_;
  uint64_t count_ = 0;
};

}  // namespace mneme::testing
