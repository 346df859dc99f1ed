// A model file made ready to run: weights, tokenizer, chat template, threads. Sessions (session.h)
// run on it. Tests: engine_test.cc.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mneme/cache/memory.h"
#include "mneme/core/thread_pool.h"
#include "mneme/io/chat_template.h"
#include "mneme/io/tokenizer.h"
#include "mneme/models/decoder.h"
#include "mneme/models/weight_format.h"

namespace mneme {

struct EngineOptions {
  int threads = 0;         // 0: one for each core
  bool copy_file = false;  // read the weights into private memory instead of mapping the file
  bool refuse_non_finite = false;  // check every weight for NaN and infinity first
  WeightFormat weights;            // of the linear layers; converted once, here
};

class Engine {
 public:
  // Throws Error naming the file and the fault: missing, no GGUF, another architecture, tensors
  // that do not fit.
  static std::unique_ptr<Engine> open(const std::string& path, const EngineOptions& options = {});

  DecoderModel& model() { return *model_; }
  const DecoderModel& model() const { return *model_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  // Null when the file has no chat template.
  const ChatTemplate* chat_template() const { return chat_template_ ? &*chat_template_ : nullptr; }
  ThreadPool& pool() { return pool_; }
  const std::string& path() const { return path_; }

  // A new, empty memory for this model. budget_bytes 0: no limit.
  std::unique_ptr<SequenceMemory> make_memory(const std::string& spec,
                                              int64_t budget_bytes = 0) const;

  // Plain text as a prompt: the beginning-of-text token where the model wants one, then the text,
  // control tokens as text.
  std::vector<int32_t> encode_prompt(const std::string& text) const;
  // Chat messages by the model's template. Throws Error when the file has none.
  std::vector<int32_t> encode_chat(const std::vector<ChatMessage>& messages,
                                   bool add_generation_prompt = true) const;

 private:
  explicit Engine(int threads) : pool_(threads) {}

  std::string path_;
  std::shared_ptr<const GgufFile> file_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::optional<ChatTemplate> chat_template_;
  std::unique_ptr<DecoderModel> model_;
  ThreadPool pool_;
};

}  // namespace mneme
