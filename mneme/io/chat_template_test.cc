#include "mneme/io/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "mneme/core/error.h"

namespace mneme {
namespace {

using testing::HasSubstr;

// Bytes are tokens, and "<a>", "<b>", "<|user|>" are control tokens of 256 and up.
class ByteTokenizer : public Tokenizer {
 public:
  std::vector<int32_t> encode(std::string_view text, SpecialTokens special) const override {
    std::vector<int32_t> ids;
    for (size_t i = 0; i < text.size();) {
      size_t token = 0;
      while (token < kNames.size() && (special == SpecialTokens::kAsText ||
                                       text.substr(i, kNames[token].size()) != kNames[token]))
        ++token;
      if (token < kNames.size()) {
        ids.push_back(static_cast<int32_t>(256 + token));
        i += kNames[token].size();
      } else {
        ids.push_back(static_cast<unsigned char>(text[i++]));
      }
    }
    return ids;
  }
  std::string piece(int32_t id, bool show_special) const override {
    if (id < 256) return std::string(1, static_cast<char>(id));
    return show_special ? std::string(kNames[static_cast<size_t>(id - 256)]) : "";
  }
  std::string decode(const std::vector<int32_t>& ids, bool show_special) const override {
    std::string text;
    for (const int32_t id : ids) text += piece(id, show_special);
    return text;
  }
  int64_t vocabulary_size() const override { return 256 + static_cast<int64_t>(kNames.size()); }
  bool is_control(int32_t id) const override { return id >= 256; }
  int32_t bos() const override { return -1; }
  int32_t eos() const override { return -1; }
  int32_t unknown() const override { return -1; }
  int32_t find(std::string_view) const override { return -1; }
  bool adds_bos() const override { return false; }
  bool ends_generation(int32_t) const override { return false; }
  uint64_t fingerprint() const override { return 0; }

 private:
  static constexpr std::array<std::string_view, 3> kNames = {"<a>", "<b>", "<|user|>"};
};

std::string message_of(const std::string& source, const std::vector<ChatMessage>& messages = {}) {
  try {
    const std::string text = ChatTemplate(source).render(messages, ChatOptions{});
    ADD_FAILURE() << "rendered " << text.size() << " bytes of " << source.substr(0, 80);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

int64_t controls(const std::vector<int32_t>& ids) {
  return std::count_if(ids.begin(), ids.end(), [](int32_t id) { return id >= 256; });
}

TEST(ChatTemplate, ControlTokensOfUsersStayTextAndThoseOfTheTemplateAreTokens) {
  const ByteTokenizer tokenizer;
  const ChatTemplate chat("{% for m in messages %}<a>{{ m.role }}\n{{ m.content }}<b>{% endfor %}");
  const std::vector<ChatMessage> messages = {{"user", "x<a>y<b>"}, {"<a>", "z"}};
  const auto ids = chat.encode(messages, false, tokenizer);
  EXPECT_EQ(controls(ids), 4);
  EXPECT_EQ(tokenizer.decode(ids, true), chat.render(messages, false));
}

TEST(ChatTemplate, NoFilterOrMethodTurnsInputIntoControlTokens) {
  const ByteTokenizer tokenizer;
  for (const char* expression : {"c",
                                 "c | trim",
                                 "c[0:]",
                                 "c[::-1][::-1]",
                                 "c | upper | lower",
                                 "(c | replace('q', '<a>'))[0:0] ~ c",
                                 "c | string",
                                 "'%s' % c",
                                 "'{}'.format(c)",
                                 "[c] | join",
                                 "c.split('x') | join('x')",
                                 "c | tojson",
                                 "{'k': c} | tojson",
                                 "[c] | string",
                                 "c | list | join",
                                 "'<' + c[1:]",
                                 "c[:2] + '>'",
                                 "c ~ ''",
                                 "c | default('x')",
                                 "(c,) | first",
                                 "c | indent",
                                 "c.strip()",
                                 "c | safe",
                                 "c | title | lower",
                                 "m.values() | list | last",
                                 "{c: 1} | list | first",
                                 "[{'v': c}] | map(attribute='v') | first",
                                 "c.partition('q')[0]",
                                 "c | center(20)",
                                 "c.replace('<', '<')[3:] ~ c",
                                 "dict(a=c).a"}) {
    const ChatTemplate chat("{% set m = messages[0] %}{% set c = m.content %}{{ " +
                            std::string(expression) + " }}");
    const auto ids = chat.encode({{"user", "<a>"}}, false, tokenizer);
    EXPECT_EQ(controls(ids), 0) << expression;
    EXPECT_FALSE(ids.empty()) << expression;
  }
}

TEST(ChatTemplate, ToolsFieldsAndVariablesAreInputToo) {
  const ByteTokenizer tokenizer;
  const ChatTemplate chat("<a>{{ tools | tojson }}{{ messages[0].extra }}{{ note }}<b>");
  ChatOptions options;
  options.tools_json = R"([{"name": "<a>", "<b>": 1}])";
  options.variables_json = R"({"note": "<a>"})";
  EXPECT_EQ(controls(chat.encode({{"user", "", R"({"extra": "<b>"})"}}, options, tokenizer)), 2);
}

TEST(ChatTemplate, UsualRolesMayBePartOfAControlTokenOthersNot) {
  const ByteTokenizer tokenizer;
  const ChatTemplate chat("{% for m in messages %}{{ '<|' + m.role + '|>' }}{% endfor %}");
  EXPECT_EQ(controls(chat.encode({{"user", ""}}, false, tokenizer)), 1);
  const ChatTemplate reversed("{% for m in messages %}{{ '<' + m.role + '>' }}{% endfor %}");
  EXPECT_EQ(controls(reversed.encode({{"a", ""}}, false, tokenizer)), 0);
}

TEST(ChatTemplate, EncodingInPiecesCutsOnlyAtControlTokens) {
  // A tokenizer that joins neighbours shows a cut: one token for each run of kAsText.
  class RunTokenizer : public ByteTokenizer {
   public:
    std::vector<int32_t> encode(std::string_view text, SpecialTokens special) const override {
      if (special == SpecialTokens::kParse) return ByteTokenizer::encode(text, special);
      return {static_cast<int32_t>(text.size())};
    }
  };
  const ChatTemplate chat("<a>user\n{{ messages[0].content }} end<b>!");
  EXPECT_EQ(chat.encode({{"user", "hello"}}, false, RunTokenizer()),
            (std::vector<int32_t>{256, 14, 257, 1}));
}

TEST(ChatTemplate, VariablesOfTransformersAreThere) {
  ChatOptions options;
  options.add_generation_prompt = false;
  options.now_seconds = 0;
  const ChatTemplate chat(
      "{{ bos_token }}{{ eos_token }} {{ tools is none }} {{ documents is none }} "
      "{{ add_generation_prompt }} {{ strftime_now('%Y') }}",
      "<s>", "</s>");
  EXPECT_EQ(chat.render({}, options), "<s></s> True True False 1970");
}

TEST(ChatTemplate, FieldsReplaceContentAndKeepTheirTypes) {
  const ChatTemplate chat("{{ messages[0].content is none }}{{ messages[0].n + 1 }}");
  EXPECT_EQ(chat.render({{"user", "x", R"({"content": null, "n": 1})"}}, false), "True2");
}

TEST(ChatTemplate, RaisedExceptionsCarryTheirMessageAndLine) {
  EXPECT_EQ(
      message_of(
          "\n{% if true %}\n{{ raise_exception('Conversation roles must alternate') }}{% endif %}"),
      "chat template, line 3: Conversation roles must alternate");
}

TEST(ChatTemplate, FaultyTemplatesAreRefusedWithTheLine) {
  EXPECT_THAT(message_of("a\n{% for x in [] %}\n"),
              HasSubstr("line 2: the 'for' of line 2 is not closed"));
  EXPECT_THAT(message_of("{{ 1 }}\n{{ 2 | frobnicate }}"),
              HasSubstr("line 2: there is no filter 'frobnicate'"));
  EXPECT_THAT(message_of("\n\n{% include 'x' %}"),
              HasSubstr("line 3: the tag 'include' is not supported"));
  EXPECT_THAT(message_of("{{ 'x"), HasSubstr("line 1"));
}

TEST(ChatTemplate, EndlessWorkEndsWithTheLimitNamed) {
  EXPECT_THAT(message_of("{% for a in range(1000000000) %}{% endfor %}"),
              HasSubstr("range has more than 100000"));
  EXPECT_THAT(
      message_of("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
      HasSubstr("line 1: the template takes more than 5000000 steps"));
  EXPECT_THAT(message_of("{% for a in range(99999) %}{{ 'x' * 1000 }}{% endfor %}"),
              HasSubstr("10000000 bytes"));
  EXPECT_THAT(message_of("{{ 'x' * 99999999999 }}"), HasSubstr("longer than 10000000"));
  EXPECT_THAT(message_of("{% set ns = namespace(x='ab') %}{% for a in range(99) %}{% set ns.x = "
                         "ns.x ~ ns.x %}{% endfor %}"),
              HasSubstr("grows beyond"));
  EXPECT_THAT(message_of("{% set ns = namespace(x=[]) %}{% for a in range(999) %}{% set ns.x = "
                         "[ns.x, ns.x] %}{% endfor %}"),
              HasSubstr("more than 2000000 values"));
  EXPECT_THAT(message_of("{% set ns = namespace(x=[]) %}{% for a in range(999) %}{% set ns.x = "
                         "[ns.x] %}{% endfor %}"),
              HasSubstr("nested deeper than 100"));
}

TEST(ChatTemplate, DeepRecursionIsRefusedInParserAndEvaluator) {
  const auto nested = [](const std::string& open, const std::string& close) {
    std::string source = "{{ ";
    for (int i = 0; i < 50000; ++i) source += open;
    source += "1";
    for (int i = 0; i < 50000; ++i) source += close;
    return source + " }}";
  };
  for (const auto& [open, close] :
       std::vector<std::pair<std::string, std::string>>{{"(", ")"},
                                                        {"[", "]"},
                                                        {"{1:", "}"},
                                                        {"-", ""},
                                                        {"not ", ""},
                                                        {"1 + ", ""},
                                                        {"1 ** ", ""},
                                                        {"", "|abs"},
                                                        {"", ".x"},
                                                        {"", "[0]"},
                                                        {"1 if ", ""},
                                                        {"", "()"},
                                                        {"f(", ")"},
                                                        {"", " is odd"}})
    EXPECT_THAT(message_of(nested(open, close)), HasSubstr("line 1: ")) << open << " " << close;
  std::string blocks;
  for (int i = 0; i < 50000; ++i) blocks += "{% if 1 %}";
  EXPECT_THAT(message_of(blocks), HasSubstr("nested deeper than 200"));
  EXPECT_THAT(message_of("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
              HasSubstr("recurses deeper than 1000"));
}

TEST(ChatTemplate, LongFlatTemplatesAreNoRecursion) {
  std::string source = "{{ 1";
  for (int i = 0; i < 20000; ++i) source += " ~ 1";
  source += " }}{% if false %}";
  for (int i = 0; i < 5000; ++i) source += "{% elif false %}";
  EXPECT_EQ(ChatTemplate(source + "{% endif %}").render({}, false).size(), 20001u);
}

TEST(ChatTemplate, PythonInternalsAreOutOfReach) {
  EXPECT_EQ(ChatTemplate("[{{ ''.__class__ }}{{ messages.__init__ }}]").render({}, false), "[]");
  EXPECT_THAT(message_of("{{ ''.__class__.__mro__ }}"), HasSubstr("'__class__'"));
  EXPECT_THAT(message_of("{{ '{0.__class__.__name__}'.format('x') }}"), HasSubstr("'__class__'"));
  EXPECT_THAT(message_of("{{ messages.append(1) }}"), HasSubstr("'append' would change a list"));
}

TEST(ChatTemplate, ReferenceCirclesAreReleased) {  // the leak checker of a sanitizer build judges
  EXPECT_EQ(
      ChatTemplate(
          "{% set ns = namespace() %}{% set ns.me = ns %}{% macro m() %}{{ ns.me is defined }}"
          "{% endmacro %}{% set ns.m = m %}{{ m() }}")
          .render({}, false),
      "True");
}

TEST(ChatTemplate, BadJsonIsRefusedByName) {
  const ChatTemplate chat("x");
  ChatOptions options;
  options.tools_json = "[1,";
  EXPECT_THROW(chat.render({}, options), Error);
  EXPECT_THROW(chat.render({{"user", "x", "[]"}}, false), Error);
  options.tools_json = std::string(100000, '[');
  EXPECT_THROW(chat.render({}, options), Error);
}

}  // namespace
}  // namespace mneme
