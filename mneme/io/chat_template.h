// Chat messages to the prompt a model was trained on, by the Jinja template in its file
// (io/jinja/). What a template copies from a message is kept apart from what it writes itself, so
// control tokens spelled out by a user stay text. Tests: chat_template_test.cc, byte for byte
// against jinja2 (tests/templates/).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mneme/io/tokenizer.h"

namespace mneme {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant", "tool"
  std::string content;
};

class ChatTemplate {
 public:
  // Parses a Jinja template. Throws Error with the line number.
  explicit ChatTemplate(std::string source, std::string bos_token = "", std::string eos_token = "");
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  // The whole prompt as text.
  std::string render(const std::vector<ChatMessage>& messages, bool add_generation_prompt) const;
  // The prompt as token ids: template text with control tokens, message text without.
  std::vector<int32_t> encode(const std::vector<ChatMessage>& messages, bool add_generation_prompt,
                              const Tokenizer& tokenizer) const;

  const std::string& source() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mneme
