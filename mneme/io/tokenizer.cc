#include "mneme/io/tokenizer.h"

#include "mneme/core/error.h"
#include "mneme/io/bpe_tokenizer.h"
#include "mneme/io/quote.h"
#include "mneme/io/spm_tokenizer.h"
#include "mneme/io/tokenizer_base.h"
#include "mneme/io/utf8.h"

namespace mneme {
namespace {

// Symbols are linked by 32-bit positions, and SentencePiece spells a blank with three bytes.
constexpr size_t kLongestText = size_t{1} << 29;

VocabularyData read_vocabulary(const GgufFile& file, bool adds_bos) {
  VocabularyData data;
  data.origin = file.origin();
  data.pieces = file.texts("tokenizer.ggml.tokens");
  if (file.has("tokenizer.ggml.token_type"))
    data.types = file.integers("tokenizer.ggml.token_type");
  if (file.has("tokenizer.ggml.scores")) data.scores = file.reals("tokenizer.ggml.scores");
  data.bos = file.integer_or("tokenizer.ggml.bos_token_id", -1);
  data.eos = file.integer_or("tokenizer.ggml.eos_token_id", -1);
  data.unknown = file.integer_or("tokenizer.ggml.unknown_token_id", -1);
  for (const char* key : {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"})
    if (file.has(key)) data.end_ids.push_back(file.integer(key));
  data.adds_bos = file.boolean_or("tokenizer.ggml.add_bos_token", adds_bos);
  return data;
}

}  // namespace

std::vector<int32_t> TokenizerBase::encode(std::string_view text, SpecialTokens special) const {
  MNEME_CHECK(text.size() <= kLongestText, "encode: the text has ", text.size(), " bytes, at most ",
              kLongestText, " are accepted");
  std::string repaired;
  if (!is_utf8(text)) {
    repaired = repair_utf8(text);
    text = repaired;
  }
  return encode_fragments(splitter_.split(text, special));
}

std::string TokenizerBase::piece(int32_t id, bool show_special) const {
  const std::string& spelling = vocabulary_.spelling(id);
  switch (vocabulary_.type(id)) {
    case PieceType::kControl:
    case PieceType::kUnknown:
      return show_special ? spelling : "";
    case PieceType::kUserDefined:
      return spelling;
    case PieceType::kByte:
      return std::string(1, static_cast<char>(vocabulary_.byte_value(id)));
    case PieceType::kNormal:
    case PieceType::kUnused:
      break;
  }
  return text_piece(id);
}

bool TokenizerBase::is_control(int32_t id) const {
  vocabulary_.spelling(id);
  return vocabulary_.type(id) == PieceType::kControl;
}

std::unique_ptr<Tokenizer> Tokenizer::from_gguf(const GgufFile& file) {
  const std::string& model = file.text("tokenizer.ggml.model");
  if (model == "llama") {
    return std::make_unique<SpmTokenizer>(read_vocabulary(file, true),
                                          file.boolean_or("tokenizer.ggml.add_space_prefix", true));
  }
  MNEME_CHECK(model == "gpt2", file.origin(), ": tokenizer model ", quote(model),
              ", expected 'gpt2' (byte-level BPE) or 'llama' (SentencePiece)");
  const std::string name = file.text_or("tokenizer.ggml.pre", "default");
  const PreTokenizerRule* rule = nullptr;
  try {
    rule = &find_pretokenizer(name);
  } catch (const Error& error) {
    fail(file.origin(), ": ", error.what());
  }
  VocabularyData data = read_vocabulary(file, rule->adds_bos);
  return std::make_unique<BpeTokenizer>(std::move(data), file.texts("tokenizer.ggml.merges"),
                                        *rule);
}

}  // namespace mneme
