#include "mneme/io/jinja/string_literal.h"

#include <cstdint>

#include "mneme/core/error.h"
#include "mneme/io/jinja/unicode.h"

namespace mneme::jinja {
namespace {

int hexadecimal_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char low = static_cast<char>(c | 0x20);
  return low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
}

// Reads exactly `digits` hexadecimal digits behind "\x", "\u" or "\U".
int32_t read_code(std::string_view inside, size_t* position, int digits) {
  int64_t code = 0;
  for (int i = 0; i < digits; ++i, ++*position) {
    const int place = *position < inside.size() ? hexadecimal_digit(inside[*position]) : -1;
    MNEME_CHECK(place >= 0, "an escape needs ", digits, " hexadecimal digits");
    code = code * 16 + place;
  }
  MNEME_CHECK(code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF), "the escape of code point ",
              code, " is no character");
  return static_cast<int32_t>(code);
}

}  // namespace

std::string unescape_literal(std::string_view inside) {
  std::string value;
  for (size_t i = 0; i < inside.size();) {
    const char c = inside[i++];
    if (c != '\\' || i >= inside.size()) {
      value.push_back(c);
      continue;
    }
    const char kind = inside[i++];
    switch (kind) {
      case '\n':
        break;
      case 'n':
        value.push_back('\n');
        break;
      case 't':
        value.push_back('\t');
        break;
      case 'r':
        value.push_back('\r');
        break;
      case 'a':
        value.push_back('\a');
        break;
      case 'b':
        value.push_back('\b');
        break;
      case 'f':
        value.push_back('\f');
        break;
      case 'v':
        value.push_back('\v');
        break;
      case '\\':
      case '\'':
      case '"':
        value.push_back(kind);
        break;
      case 'x':
        append_utf8(read_code(inside, &i, 2), &value);
        break;
      case 'u':
        append_utf8(read_code(inside, &i, 4), &value);
        break;
      case 'U':
        append_utf8(read_code(inside, &i, 8), &value);
        break;
      case 'N':
        fail("named characters (\\N{...}) are not supported");
      default:
        if (kind >= '0' && kind <= '7') {
          int32_t code = kind - '0';
          for (int digits = 1;
               digits < 3 && i < inside.size() && inside[i] >= '0' && inside[i] <= '7'; ++digits)
            code = code * 8 + (inside[i++] - '0');
          append_utf8(code, &value);
        } else {
          value.push_back('\\');
          value.push_back(kind);
        }
    }
  }
  return value;
}

}  // namespace mneme::jinja
