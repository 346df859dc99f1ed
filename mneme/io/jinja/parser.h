// Tokens to the syntax tree: jinja2's grammar without template inheritance, imports and recursive
// loops, with the `break`/`continue` and `generation` tags that transformers adds. Tests:
// chat_template_oracle_test.cc.
#pragma once

#include <string_view>

#include "mneme/io/jinja/ast.h"

namespace mneme::jinja {

// Throws Error("line N: ...") for a syntax fault, an unknown tag, filter or test (those inside `if`
// are only refused when they run, as jinja2 does), and nesting beyond kMaxSyntaxDepth.
Block parse(std::string_view source);

}  // namespace mneme::jinja
