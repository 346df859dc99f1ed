// Chat messages to the prompt a model was trained on, by the Jinja template in its file
// (io/jinja/), with the variables that transformers hands to templates: messages, tools, documents,
// add_generation_prompt, bos_token, eos_token. What a template copies from a message is kept apart
// from what it writes itself, so control tokens spelled out by a user stay text. Tests:
// chat_template_test.cc and chat_template_oracle_test.cc, byte for byte against jinja2
// (tests/templates/).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mneme/io/tokenizer.h"

namespace mneme {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant", "tool"
  std::string content;
  // A JSON object of further fields of the message ({"tool_calls": [...]}), or empty. A field
  // "content" here replaces the text above, by null or by a list of parts.
  std::string fields_json = "";
};

struct ChatOptions {
  bool add_generation_prompt = true;
  std::string tools_json = "";      // a JSON array of tool descriptions, or empty: none
  std::string variables_json = "";  // a JSON object of variables ({"date_string": "..."}), or empty
  // What strftime_now() shows, in seconds since the epoch and UTC; nothing: the clock, local time.
  std::optional<int64_t> now_seconds = std::nullopt;
};

// A prompt and, for every byte of it, whether it was copied from the input.
struct RenderedPrompt {
  std::string text;
  std::string from_input;  // one byte each, 0 or 1; empty when nothing was copied
};

class ChatTemplate {
 public:
  // Parses a Jinja template. Throws Error with the line number.
  explicit ChatTemplate(std::string source, std::string bos_token = "", std::string eos_token = "");
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  // The whole prompt as text. Throws Error with the line number for what the template refuses
  // (raise_exception: "Conversation roles must alternate") and when it passes the limits of
  // io/jinja/limits.h; also for JSON that is not what ChatMessage and ChatOptions ask for.
  std::string render(const std::vector<ChatMessage>& messages, const ChatOptions& options) const;
  std::string render(const std::vector<ChatMessage>& messages, bool add_generation_prompt) const;
  // The same, with the origin of every byte. Contents, tools, variables and all roles but the usual
  // ones ("user", "assistant", ...) count as input.
  RenderedPrompt render_marked(const std::vector<ChatMessage>& messages,
                               const ChatOptions& options) const;

  // The prompt as token ids: template text with control tokens, message text without. No
  // beginning-of-text token is added to what the template writes. The ids equal
  // tokenizer.encode(render(...), kParse) unless the input spells a control token.
  std::vector<int32_t> encode(const std::vector<ChatMessage>& messages, const ChatOptions& options,
                              const Tokenizer& tokenizer) const;
  std::vector<int32_t> encode(const std::vector<ChatMessage>& messages, bool add_generation_prompt,
                              const Tokenizer& tokenizer) const;

  const std::string& source() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Token ids of a marked prompt: control tokens are recognised only where every byte of them is the
// template's own; the text between two of them is encoded in one piece.
std::vector<int32_t> encode_marked(const RenderedPrompt& prompt, const Tokenizer& tokenizer);

}  // namespace mneme
