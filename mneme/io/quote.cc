#include "mneme/io/quote.h"

#include <utf8proc.h>

#include <cstdint>

namespace mneme {
namespace {

constexpr size_t kShownBytes = 120;

// Bytes of the character that starts `text`, or 0 when it is not UTF-8.
size_t character_bytes(std::string_view text) {
  utf8proc_int32_t point = 0;
  const utf8proc_ssize_t used =
      utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                       static_cast<utf8proc_ssize_t>(text.size()), &point);
  return used > 0 ? static_cast<size_t>(used) : 0;
}

void append_escaped(std::string& out, unsigned char byte) {
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
    const auto byte = static_cast<unsigned char>(text[at]);
    const size_t length = character_bytes(text.substr(at));
    // 0xc2 0x80..0x9f are the C1 controls, which some terminals obey.
    const bool control =
        byte < 0x20 || byte == 0x7f ||
        (byte == 0xc2 && length == 2 && static_cast<unsigned char>(text[at + 1]) < 0xa0);
    if (length == 0 || control) {
      for (size_t i = 0; i < (length == 0 ? 1 : length); ++i) {
        append_escaped(out, static_cast<unsigned char>(text[at + i]));
      }
    } else {
      if (byte == '\'' || byte == '\\') out += '\\';
      out += text.substr(at, length);
    }
    at += length == 0 ? 1 : length;
  }
  if (at < text.size()) out += "...";
  return out + "'";
}

bool is_utf8(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    if (static_cast<unsigned char>(text[at]) < 0x80) {
      ++at;
      continue;
    }
    const size_t length = character_bytes(text.substr(at));
    if (length == 0) return false;
    at += length;
  }
  return true;
}

}  // namespace mneme
