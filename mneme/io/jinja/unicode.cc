#include "mneme/io/jinja/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>

namespace mneme::jinja {
namespace {

// Unconditional multi-character mappings of Unicode's SpecialCasing.txt for Latin letters; Greek
// and Armenian ligatures keep their simple mapping.
struct SpecialCase {
  int32_t code;
  const char* upper;
  const char* title;
};
constexpr SpecialCase kSpecialCases[] = {
    {0xDF, "SS", "Ss"},
    {0x149, "\xCA\xBCN", "\xCA\xBCN"},
    {0x1F0, "J\xCC\x8C", "J\xCC\x8C"},
    {0x1E96, "H\xCC\xB1", "H\xCC\xB1"},
    {0x1E97, "T\xCC\x88", "T\xCC\x88"},
    {0x1E98, "W\xCC\x8A", "W\xCC\x8A"},
    {0x1E99, "Y\xCC\x8A", "Y\xCC\x8A"},
    {0xFB00, "FF", "Ff"},
    {0xFB01, "FI", "Fi"},
    {0xFB02, "FL", "Fl"},
    {0xFB03, "FFI", "Ffi"},
    {0xFB04, "FFL", "Ffl"},
    {0xFB05, "ST", "St"},
    {0xFB06, "ST", "St"},
};

bool is_continuation(unsigned char byte) { return (byte & 0xC0) == 0x80; }

utf8proc_category_t category(int32_t code) { return utf8proc_category(code); }

}  // namespace

Character character_at(std::string_view text, size_t position) {
  const auto lead = static_cast<unsigned char>(text[position]);
  if (lead < 0x80) return {lead, 1};
  utf8proc_int32_t code = -1;
  const auto left = static_cast<utf8proc_ssize_t>(std::min<size_t>(text.size() - position, 4));
  const auto length = utf8proc_iterate(
      reinterpret_cast<const utf8proc_uint8_t*>(text.data() + position), left, &code);
  if (length <= 0) return {-1, 1};
  return {code, static_cast<int32_t>(length)};
}

size_t previous_character(std::string_view text, size_t position) {
  for (size_t back = 1; back <= 4 && back <= position; ++back) {
    const size_t begin = position - back;
    if (is_continuation(static_cast<unsigned char>(text[begin]))) continue;
    if (static_cast<size_t>(character_at(text, begin).bytes) == back) return begin;
    break;
  }
  return position - 1;
}

int64_t count_characters(std::string_view text) {
  int64_t count = 0;
  for (size_t i = 0; i < text.size(); i += static_cast<size_t>(character_at(text, i).bytes))
    ++count;
  return count;
}

bool is_space(int32_t code) {
  return (code >= 0x09 && code <= 0x0D) || (code >= 0x1C && code <= 0x20) || code == 0x85 ||
         code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
         code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

bool is_printable(int32_t code) {
  if (code == ' ') return true;
  if (code < 0) return false;
  switch (category(code)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
      return false;
    default:
      return true;
  }
}

bool is_upper(int32_t code) { return code >= 0 && category(code) == UTF8PROC_CATEGORY_LU; }
bool is_lower(int32_t code) {
  return code >= 0 && (category(code) == UTF8PROC_CATEGORY_LL || code == 0xAA || code == 0xBA);
}
bool is_titlecase(int32_t code) { return code >= 0 && category(code) == UTF8PROC_CATEGORY_LT; }
bool is_digit(int32_t code) { return code >= 0 && category(code) == UTF8PROC_CATEGORY_ND; }

bool is_alphabetic(int32_t code) {
  if (code < 0) return false;
  switch (category(code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return true;
    default:
      return false;
  }
}

void append_utf8(int32_t code, std::string* out) {
  std::array<utf8proc_uint8_t, 4> bytes{};
  const auto length = utf8proc_encode_char(code, bytes.data());
  out->append(reinterpret_cast<const char*>(bytes.data()), static_cast<size_t>(length));
}

void append_case(int32_t code, Case target, std::string* out) {
  if (code < 0x80) {
    const bool letter = (code | 0x20) >= 'a' && (code | 0x20) <= 'z';
    if (letter) code = target == Case::kLower ? (code | 0x20) : (code & ~0x20);
    out->push_back(static_cast<char>(code));
    return;
  }
  if (target == Case::kLower && code == 0x130) {
    out->append("i\xCC\x87");
    return;
  }
  if (target != Case::kLower) {
    for (const SpecialCase& special : kSpecialCases) {
      if (special.code != code) continue;
      out->append(target == Case::kUpper ? special.upper : special.title);
      return;
    }
  }
  if (target == Case::kLower) code = utf8proc_tolower(code);
  if (target == Case::kUpper) code = utf8proc_toupper(code);
  if (target == Case::kTitle) code = utf8proc_totitle(code);
  append_utf8(code, out);
}

}  // namespace mneme::jinja
