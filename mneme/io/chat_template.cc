#include "mneme/io/chat_template.h"

#include <algorithm>

#include "mneme/core/error.h"
#include "mneme/io/jinja/interpreter.h"
#include "mneme/io/jinja/json.h"
#include "mneme/io/jinja/parser.h"

namespace mneme {
namespace {

using jinja::Dict;
using jinja::Source;
using jinja::Text;
using jinja::Value;

template <typename Body>
auto with_origin(Body&& body) {
  try {
    return body();
  } catch (const Error& error) {
    throw Error(concat("chat template, ", error.what()));
  }
}

// Templates build control tokens from roles ("<|" + role + "|>"), so the roles of every chat format
// count as the template's own words; none of them spells a control token by itself.
Source role_source(std::string_view role) {
  for (const std::string_view known :
       {"system", "user", "assistant", "tool", "developer", "function", "ipython", "model"})
    if (role == known) return Source::kTemplate;
  return Source::kInput;
}

std::shared_ptr<const Dict> parse_object(const std::string& json, const std::string& what) {
  Value value = jinja::parse_json(json, what);
  MNEME_CHECK(value.is_dict(), what, ": expected a JSON object, got '", jinja::type_name(value),
              "'");
  return std::make_shared<const Dict>(value.as_dict());
}

Value message_value(const ChatMessage& message, size_t index) {
  auto dict = std::make_shared<Dict>();
  dict->set(Value::text("role"), Value::text(message.role, role_source(message.role)));
  dict->set(Value::text("content"), Value::text(message.content, Source::kInput));
  if (!message.fields_json.empty()) {
    const auto fields = parse_object(message.fields_json, concat("fields of message ", index));
    for (const auto& [key, value] : fields->entries()) dict->set(key, value);
  }
  return Value(std::shared_ptr<const Dict>(std::move(dict)));
}

}  // namespace

struct ChatTemplate::Impl {
  std::string source, bos_token, eos_token;
  jinja::Block block;

  Text render(const std::vector<ChatMessage>& messages, const ChatOptions& options) const {
    jinja::Values list;
    for (size_t i = 0; i < messages.size(); ++i) list.push_back(message_value(messages[i], i));
    jinja::Interpreter interpreter(options.now_seconds);
    interpreter.define("messages", Value::list(std::move(list)));
    interpreter.define("tools", options.tools_json.empty()
                                    ? Value()
                                    : jinja::parse_json(options.tools_json, "tools"));
    interpreter.define("documents", Value());
    interpreter.define("add_generation_prompt", Value(options.add_generation_prompt));
    interpreter.define("bos_token", Value::text(bos_token));
    interpreter.define("eos_token", Value::text(eos_token));
    if (!options.variables_json.empty()) {
      const auto variables = parse_object(options.variables_json, "template variables");
      for (const auto& [name, value] : variables->entries())
        interpreter.define(name.as_text().bytes(), value);
    }
    return with_origin([&] { return interpreter.render(block); });
  }
};

ChatTemplate::ChatTemplate(std::string source, std::string bos_token, std::string eos_token)
    : impl_(std::make_unique<Impl>()) {
  impl_->source = std::move(source);
  impl_->bos_token = std::move(bos_token);
  impl_->eos_token = std::move(eos_token);
  impl_->block = with_origin([&] { return jinja::parse(impl_->source); });
}
ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

const std::string& ChatTemplate::source() const { return impl_->source; }

std::string ChatTemplate::render(const std::vector<ChatMessage>& messages,
                                 const ChatOptions& options) const {
  return impl_->render(messages, options).bytes();
}

std::string ChatTemplate::render(const std::vector<ChatMessage>& messages,
                                 bool add_generation_prompt) const {
  ChatOptions options;
  options.add_generation_prompt = add_generation_prompt;
  return render(messages, options);
}

RenderedPrompt ChatTemplate::render_marked(const std::vector<ChatMessage>& messages,
                                           const ChatOptions& options) const {
  const Text text = impl_->render(messages, options);
  RenderedPrompt prompt;
  prompt.text = text.bytes();
  if (text.has_input()) {
    prompt.from_input.resize(prompt.text.size());
    for (size_t i = 0; i < prompt.text.size(); ++i)
      prompt.from_input[i] = static_cast<char>(text.source_at(i));
  }
  return prompt;
}

std::vector<int32_t> ChatTemplate::encode(const std::vector<ChatMessage>& messages,
                                          const ChatOptions& options,
                                          const Tokenizer& tokenizer) const {
  return encode_marked(render_marked(messages, options), tokenizer);
}

std::vector<int32_t> ChatTemplate::encode(const std::vector<ChatMessage>& messages,
                                          bool add_generation_prompt,
                                          const Tokenizer& tokenizer) const {
  ChatOptions options;
  options.add_generation_prompt = add_generation_prompt;
  return encode(messages, options, tokenizer);
}

std::vector<int32_t> encode_marked(const RenderedPrompt& prompt, const Tokenizer& tokenizer) {
  const std::string_view text = prompt.text;
  MNEME_CHECK(prompt.from_input.empty() || prompt.from_input.size() == text.size(),
              "encode_marked: ", text.size(), " bytes of text with ", prompt.from_input.size(),
              " marks");
  std::vector<int32_t> ids;
  size_t plain_begin = 0;  // of the text that is not encoded yet
  const auto encode_until = [&](size_t end) {
    if (end == plain_begin) return;
    const auto piece =
        tokenizer.encode(text.substr(plain_begin, end - plain_begin), SpecialTokens::kAsText);
    ids.insert(ids.end(), piece.begin(), piece.end());
  };
  for (size_t run_begin = 0; run_begin < text.size();) {
    const bool input = !prompt.from_input.empty() && prompt.from_input[run_begin];
    const size_t next = prompt.from_input.find(input ? '\0' : '\1', run_begin);
    const size_t run_end = std::min(next, text.size());
    if (!input) {
      // The tokenizer itself says which control tokens the template's own text holds, in order.
      const std::string_view run = text.substr(run_begin, run_end - run_begin);
      size_t searched = 0;
      for (const int32_t id : tokenizer.encode(run, SpecialTokens::kParse)) {
        if (!tokenizer.is_control(id)) continue;
        const std::string name = tokenizer.piece(id, true);
        const size_t found = run.find(name, searched);
        if (name.empty() || found == std::string_view::npos) continue;
        searched = found + name.size();
        encode_until(run_begin + found);
        ids.push_back(id);
        plain_begin = run_begin + searched;
      }
    }
    run_begin = run_end;
  }
  encode_until(text.size());
  return ids;
}

}  // namespace mneme
