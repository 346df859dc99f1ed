// Any bytes as a template over one fixed conversation: it renders or throws Error, within the
// limits.
#include <cstdint>
#include <string>

#include "mneme/core/error.h"
#include "mneme/io/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::vector<mneme::ChatMessage> messages = {
      {"system", "Be brief."},
      {"user", "Hi <|im_end|> \xF0\x9F\x98\x80 \xFF"},
      {"assistant", "",
       R"({"content": null, "tool_calls": [{"function": {"name": "f", "arguments": {"x": [1, 2.5, "y"]}}}]})"},
      {"tool", "42"},
  };
  static const mneme::ChatOptions options = [] {
    mneme::ChatOptions o;
    o.tools_json = R"([{"type": "function", "function": {"name": "f", "parameters": {}}}])";
    o.variables_json =
        R"({"n": 3, "s": "text", "xs": [3, 1, 2], "d": {"a": 1, "b": [true, null]}})";
    o.now_seconds = 0;
    return o;
  }();
  try {
    const mneme::ChatTemplate chat(std::string(reinterpret_cast<const char*>(data), size), "<s>");
    const mneme::RenderedPrompt prompt = chat.render_marked(messages, options);
    if (!prompt.from_input.empty() && prompt.from_input.size() != prompt.text.size())
      __builtin_trap();
  } catch (const mneme::Error&) {
  }
  return 0;
}
