// UTF-8 decoding as Unicode chapter 3.9 asks: an ill-formed sequence is replaced by one U+FFFD for
// each maximal subpart (the longest start of a valid character found there, else one byte). Tests:
// utf8_test.cc.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace mneme {

inline constexpr char32_t kReplacementCharacter = 0xFFFD;

struct Utf8Char {
  char32_t code_point = kReplacementCharacter;
  size_t length = 0;       // bytes taken, at least 1
  bool valid = false;      // else code_point is U+FFFD and `length` the maximal subpart
  bool truncated = false;  // not valid, but more bytes after the end of the text could make it so
};

// The character that begins at `position` (< text.size()).
Utf8Char decode_utf8(std::string_view text, size_t position);

// `code_point` must be a Unicode scalar value.
void append_utf8(std::string& out, char32_t code_point);

bool is_utf8(std::string_view text);

// `text` with every ill-formed sequence replaced; the identity on valid text.
std::string repair_utf8(std::string_view text);

}  // namespace mneme
