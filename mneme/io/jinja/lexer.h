// Template source to tokens, with jinja2's white space rules for trim_blocks and lstrip_blocks: the
// newline behind a block tag or comment goes, blanks before one at the start of a line go, `-`
// strips all white space on its side, `+` keeps it. Tests: chat_template_oracle_test.cc,
// tests/templates/snippets.json.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mneme::jinja {

struct Token {
  enum class Kind {
    kData,           // text: what is printed as it is
    kVariableBegin,  // {{
    kVariableEnd,
    kBlockBegin,  // {%
    kBlockEnd,
    kName,      // text: the name
    kString,    // text: the value, escapes resolved
    kInteger,   // integer
    kFloat,     // real
    kOperator,  // text: the operator
    kEnd,
  };
  Kind kind = Kind::kEnd;
  int32_t line = 1;
  std::string text;
  int64_t integer = 0;
  double real = 0;
};

// Ends with kEnd. Throws Error("line N: ...") for an unknown character, an open comment, raw block
// or string, and unbalanced brackets.
std::vector<Token> tokenize(std::string_view source);

}  // namespace mneme::jinja
