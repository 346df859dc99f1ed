// The Unicode facts that Python's str methods follow, on UTF-8 bytes. A byte that begins no valid
// character counts as one character of its own, so no input is refused and none is lost. Tests:
// chat_template_oracle_test.cc (against Python).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mneme::jinja {

struct Character {
  int32_t code = 0;   // -1 for an invalid byte
  int32_t bytes = 1;  // 1..4
};

// The character that begins at `position` (< text.size()).
Character character_at(std::string_view text, size_t position);
// Where the character that ends just before `position` (> 0) begins.
size_t previous_character(std::string_view text, size_t position);
int64_t count_characters(std::string_view text);

// str.isspace() of one code point.
bool is_space(int32_t code);
// str.isprintable() of one code point: what repr() does not escape.
bool is_printable(int32_t code);
bool is_upper(int32_t code);
bool is_lower(int32_t code);
bool is_titlecase(int32_t code);
inline bool is_cased(int32_t code) {
  return is_upper(code) || is_lower(code) || is_titlecase(code);
}
bool is_digit(int32_t code);  // decimal digits
bool is_alphabetic(int32_t code);

enum class Case { kUpper, kLower, kTitle };
// Appends `code` in another case; some characters become several (the German sharp s in upper
// case).
void append_case(int32_t code, Case target, std::string* out);
void append_utf8(int32_t code, std::string* out);

}  // namespace mneme::jinja
