// Two things are fed: text, which every tokenizer must encode and give back, and GGUF files, raw or
// with metadata drawn from the input, which must load or be refused with an Error.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "mneme/core/error.h"
#include "mneme/io/tokenizer_testing.h"

namespace {

using namespace mneme;

void require(bool holds) {
  if (!holds) std::abort();
}

void check_text(const Tokenizer& tokenizer, std::string_view text, bool keeps_every_byte) {
  const std::string whole = repair_utf8(text);
  for (const SpecialTokens special : {SpecialTokens::kAsText, SpecialTokens::kParse}) {
    const auto ids = tokenizer.encode(text, special);
    Utf8Stream stream;
    std::string streamed;
    for (const int32_t id : ids) {
      require(id >= 0 && id < tokenizer.vocabulary_size());
      require(special == SpecialTokens::kParse || !tokenizer.is_control(id) ||
              id == tokenizer.unknown());
      streamed += stream.push(tokenizer.piece(id, true));
    }
    streamed += stream.finish();
    require(is_utf8(streamed));
    if (keeps_every_byte) require(tokenizer.decode(ids, true) == whole);
  }
}

void check_small_vocabularies(std::string_view text) {
  static const auto bpe = [](std::string_view rule) {
    const testing::SmallBpe small = testing::small_bpe();
    return BpeTokenizer(small.data, small.merges, find_pretokenizer(rule));
  };
  static const BpeTokenizer kBpe[] = {bpe("smollm"), bpe("default"), bpe("llama-bpe"),
                                      bpe("qwen2")};
  static const SpmTokenizer kSpm[] = {SpmTokenizer(testing::small_spm(), false),
                                      SpmTokenizer(testing::small_spm(), true)};
  const bool has_blank_mark = text.find("\u2581") != std::string_view::npos;
  for (const BpeTokenizer& tokenizer : kBpe) check_text(tokenizer, text, true);
  for (const SpmTokenizer& tokenizer : kSpm) check_text(tokenizer, text, !has_blank_mark);
}

void check_file(const GgufFile& file, std::string_view text) {
  try {
    check_text(*Tokenizer::from_gguf(file), text, false);
  } catch (const Error&) {
  }
}

void check_raw_file(std::string_view bytes) {
  try {
    const auto file = GgufFile::parse(reinterpret_cast<const std::byte*>(bytes.data()),
                                      static_cast<int64_t>(bytes.size()), "fuzz.gguf");
    check_file(*file, "hello <|im_start|>");
  } catch (const Error&) {
  }
}

// The input line by line: its first byte says what a line is, the rest is a piece or a merge.
void check_drawn_file(std::string_view input) {
  testing::GgufMetadata metadata;
  std::vector<std::string> pieces, merges;
  std::vector<int64_t> types;
  std::vector<double> scores;
  const bool spm = !input.empty() && input[0] % 2;
  for (std::string_view rest = input; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    const int kind = line.empty() ? 0 : static_cast<uint8_t>(line[0]);
    const std::string piece(line.substr(line.empty() ? 0 : 1));
    if (kind % 8 == 7) {
      merges.push_back(piece);
    } else {
      pieces.push_back(piece);
      types.push_back(kind % 8);
      scores.push_back(kind / 8);
    }
  }
  if (input.size() % 3 == 0) {
    for (int byte = 0; byte < 256; ++byte) {
      pieces.push_back(testing::bpe_spelling(std::string(1, static_cast<char>(byte))));
      types.push_back(1);
      scores.push_back(0.0);
    }
  }
  metadata.text("tokenizer.ggml.model", spm ? "llama" : "gpt2");
  metadata.text("tokenizer.ggml.pre", input.size() % 2 ? "llama-bpe" : "smollm");
  metadata.texts("tokenizer.ggml.tokens", pieces);
  metadata.integers("tokenizer.ggml.token_type", types);
  metadata.reals("tokenizer.ggml.scores", scores);
  metadata.texts("tokenizer.ggml.merges", merges);
  metadata.integer("tokenizer.ggml.bos_token_id", 0);
  metadata.integer("tokenizer.ggml.unknown_token_id", static_cast<uint32_t>(input.size() % 5));
  std::string storage;
  check_file(*metadata.parse(storage), input);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 4) {
    case 0:
      check_raw_file(input);
      break;
    case 1:
      check_drawn_file(input);
      break;
    default:
      check_small_vocabularies(input);
  }
  return 0;
}
