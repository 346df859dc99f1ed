// Text for HTML and SVG: escaping, and numbers the way a reader wants them. Tests:
// html_text_test.cc.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mneme {

// Safe inside elements and double-quoted attributes: & < > " ' are replaced, as are control
// characters and bytes that are not UTF-8 (by U+FFFD); tab and newline stay.
std::string html_escape(std::string_view text);

// "12.3": exactly `digits` decimals; "-0.0" is "0.0".
std::string fixed_number(double value, int digits);
// About three significant digits: "0.00123", "12.3", "1,234", "2.1e-07".
std::string short_number(double value);
// "12,345"
std::string grouped_number(int64_t value);

}  // namespace mneme
