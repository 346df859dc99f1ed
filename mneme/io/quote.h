// Text from a file, made safe to print in an error message or a log line. Tests: quote_test.cc.
#pragma once

#include <string>
#include <string_view>

namespace mneme {

// `text` between single quotes: control bytes, quotes, backslashes and bytes beyond ASCII that are
// not UTF-8 as \xNN; at most about 120 bytes, the rest replaced by "...".
std::string quote(std::string_view text);

}  // namespace mneme
