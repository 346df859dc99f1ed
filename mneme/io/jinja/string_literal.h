// The escapes of a quoted text in a template, as Python's "unicode-escape" reads them. Tests:
// chat_template_oracle_test.cc.
#pragma once

#include <string>
#include <string_view>

namespace mneme::jinja {

// The value of the characters between the quotes. Unknown escapes stay as they are. Throws Error
// for a \x, \u or \U without its digits or without a character.
std::string unescape_literal(std::string_view inside);

}  // namespace mneme::jinja
