// Byte for byte against jinja2: whole conversations under four families of chat templates
// (tests/templates/cases.json, made by tools/oracle/make_template_cases.py) and hundreds of
// snippets (snippets.json, by make_snippet_cases.py). MNEME_TEMPLATE_DIR points the first test at
// other templates and their cases.json.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "mneme/core/error.h"
#include "mneme/io/chat_template.h"
#include "mneme/io/jinja/interpreter.h"
#include "mneme/io/jinja/json.h"
#include "mneme/io/jinja/parser.h"

namespace mneme {
namespace {

using Json = nlohmann::ordered_json;

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string template_folder() {
  const char* folder = std::getenv("MNEME_TEMPLATE_DIR");
  return folder ? folder : MNEME_SOURCE_DIR "/tests/templates";
}

ChatMessage to_message(Json message) {
  ChatMessage result;
  result.role = message.at("role").get<std::string>();
  message.erase("role");
  if (message.contains("content") && message["content"].is_string()) {
    result.content = message["content"].get<std::string>();
    message.erase("content");
  }
  if (!message.empty()) result.fields_json = message.dump();
  return result;
}

TEST(ChatTemplateOracle, ConversationsRenderAsJinja2DoesByteForByte) {
  const Json file = Json::parse(read_text(template_folder() + "/cases.json"));
  size_t rendered = 0, refused = 0;
  for (const auto& [name, bos] : file.at("bos").items()) {
    const ChatTemplate chat(read_text(template_folder() + "/" + name + ".jinja"),
                            bos.get<std::string>());
    size_t of_this_template = 0;
    for (size_t i = 0; i < file["cases"].size(); ++i) {
      const Json& test = file["cases"][i];
      SCOPED_TRACE(name + " case " + std::to_string(i));
      std::vector<ChatMessage> messages;
      for (const Json& message : test.at("messages")) messages.push_back(to_message(message));
      ChatOptions options;
      options.add_generation_prompt = test.at("add_generation_prompt").get<bool>();
      options.now_seconds = file.at("now_seconds").get<int64_t>();
      if (test.contains("tools")) options.tools_json = test["tools"].dump();
      if (test.contains("variables")) options.variables_json = test["variables"].dump();
      const Json& expected = test.at("expected").at(name);
      if (expected.contains("error")) {
        EXPECT_THROW(chat.render(messages, options), Error) << expected["error"];
        ++refused;
        continue;
      }
      EXPECT_EQ(chat.render(messages, options), expected.at("text").get<std::string>());
      ++of_this_template;
    }
    EXPECT_GE(of_this_template, 50u) << name;
    rendered += of_this_template;
  }
  RecordProperty("rendered", static_cast<int>(rendered));
  RecordProperty("refused", static_cast<int>(refused));
}

TEST(ChatTemplateOracle, SnippetsRenderAsJinja2DoesByteForByte) {
  const Json file = Json::parse(read_text(MNEME_SOURCE_DIR "/tests/templates/snippets.json"));
  const jinja::Value context = jinja::parse_json(file.at("context").dump(), "context");
  ASSERT_GT(file.at("cases").size(), 400u);
  for (const Json& test : file["cases"]) {
    const std::string source = test.at("source").get<std::string>();
    SCOPED_TRACE(source);
    const auto render = [&] {
      const jinja::Block block = jinja::parse(source);
      jinja::Interpreter interpreter(file.at("now_seconds").get<int64_t>());
      for (const auto& [name, value] : context.as_dict().entries())
        interpreter.define(name.as_text().bytes(), value);
      return interpreter.render(block).bytes();
    };
    if (test.contains("error")) {
      EXPECT_THROW(
          {
            const std::string text = render();
            ADD_FAILURE() << "rendered '" << text << "', jinja2: " << test["error"];
          },
          Error);
      continue;
    }
    std::string text;
    try {
      text = render();
    } catch (const Error& error) {
      ADD_FAILURE() << error.what();
      continue;
    }
    EXPECT_EQ(text, test.at("text").get<std::string>());
  }
}

}  // namespace
}  // namespace mneme
