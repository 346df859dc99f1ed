#include "mneme/io/quote.h"

#include "mneme/io/utf8.h"

namespace mneme {
namespace {

constexpr size_t kShownBytes = 120;

void append_escaped(std::string& out, char character) {
  const auto byte = static_cast<unsigned char>(character);
  constexpr char kDigits[] = "0123456789abcdef";
  out += "\\x";
  out += kDigits[byte >> 4];
  out += kDigits[byte & 15];
}

}  // namespace

std::string quote(std::string_view text) {
  std::string out = "'";
  size_t at = 0;
  while (at < text.size() && at < kShownBytes) {
    const Utf8Char character = decode_utf8(text, at);
    // Up to 0x9f: some terminals obey the C1 controls too.
    const bool control = character.code_point < 0x20 ||
                         (character.code_point >= 0x7f && character.code_point < 0xa0);
    if (!character.valid || control) {
      for (size_t i = 0; i < character.length; ++i) append_escaped(out, text[at + i]);
    } else {
      if (text[at] == '\'' || text[at] == '\\') out += '\\';
      out += text.substr(at, character.length);
    }
    at += character.length;
  }
  if (at < text.size()) out += "...";
  return out + "'";
}

}  // namespace mneme
