#include "mneme/runtime/engine.h"

#include "mneme/cache/memory_registry.h"
#include "mneme/core/error.h"
#include "mneme/io/gguf.h"
#include "mneme/io/tensor_check.h"
#include "mneme/models/load_model.h"

namespace mneme {
namespace {

void refuse_non_finite(const GgufFile& file) {
  for (const TensorView& tensor : file.tensors()) {
    const NonFiniteCount count = count_non_finite(tensor);
    MNEME_CHECK(count.nan == 0 && count.inf == 0, file.origin(), ": tensor ", tensor.name,
                " holds ", count.nan, " NaN and ", count.inf, " infinite values");
  }
}

std::string control_text(const Tokenizer& tokenizer, int32_t id) {
  return id < 0 ? "" : tokenizer.piece(id, true);
}

}  // namespace

std::unique_ptr<Engine> Engine::open(const std::string& path, const EngineOptions& options) {
  std::unique_ptr<Engine> engine(new Engine(options.threads));
  engine->path_ = path;
  engine->file_ =
      GgufFile::open(path, options.copy_file ? MappedFile::Mode::kCopy : MappedFile::Mode::kMap);
  if (options.refuse_non_finite) refuse_non_finite(*engine->file_);
  engine->model_ = load_model(engine->file_);
  if (options.weights.kind != WeightFormat::Kind::kFile)
    set_weight_format(*engine->model_, options.weights, engine->pool_);
  engine->tokenizer_ = Tokenizer::from_gguf(*engine->file_);
  MNEME_CHECK(engine->tokenizer_->vocabulary_size() == engine->model_->config().vocabulary, path,
              ": the tokenizer has ", engine->tokenizer_->vocabulary_size(), " tokens, the model ",
              engine->model_->config().vocabulary);
  if (engine->file_->has("tokenizer.chat_template")) {
    const Tokenizer& tokenizer = *engine->tokenizer_;
    engine->chat_template_.emplace(engine->file_->text("tokenizer.chat_template"),
                                   control_text(tokenizer, tokenizer.bos()),
                                   control_text(tokenizer, tokenizer.eos()));
  }
  return engine;
}

std::unique_ptr<SequenceMemory> Engine::make_memory(const std::string& spec,
                                                    int64_t budget_bytes) const {
  MNEME_CHECK(budget_bytes >= 0, "the memory budget must not be negative, got ", budget_bytes);
  auto memory = MemoryRegistry::builtin().build(spec, model_->memory_shape());
  memory->set_budget(budget_bytes);
  return memory;
}

std::vector<int32_t> Engine::encode_prompt(const std::string& text) const {
  std::vector<int32_t> tokens = tokenizer_->encode(text);
  if (tokenizer_->adds_bos() && tokenizer_->bos() >= 0)
    tokens.insert(tokens.begin(), tokenizer_->bos());
  return tokens;
}

std::vector<int32_t> Engine::encode_chat(const std::vector<ChatMessage>& messages,
                                         bool add_generation_prompt) const {
  MNEME_CHECK(chat_template_.has_value(), path_,
              ": the model has no chat template; give it a plain prompt");
  return chat_template_->encode(messages, add_generation_prompt, *tokenizer_);
}

}  // namespace mneme
