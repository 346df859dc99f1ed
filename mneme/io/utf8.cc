#include "mneme/io/utf8.h"

#include <cstdint>
#include <cstring>

#include "mneme/io/tokenizer.h"

namespace mneme {
namespace {

struct Lead {
  size_t length;      // of the whole character; 0: no character begins so
  uint8_t low, high;  // range of the second byte (Unicode table 3-7)
};

Lead lead_of(uint8_t byte) {
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

// Bytes of pure ASCII from `position` on, counted eight at a time.
size_t ascii_run(std::string_view text, size_t position) {
  size_t end = position;
  for (uint64_t word = 0; end + 8 <= text.size(); end += 8) {
    std::memcpy(&word, text.data() + end, 8);
    if (word & 0x8080808080808080u) break;
  }
  while (end < text.size() && static_cast<uint8_t>(text[end]) < 0x80) ++end;
  return end - position;
}

}  // namespace

Utf8Char decode_utf8(std::string_view text, size_t position) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[position + i]); };
  const uint8_t first = byte(0);
  if (first < 0x80) return {first, 1, true, false};
  Lead lead = lead_of(first);
  if (lead.length == 0) return {kReplacementCharacter, 1, false, false};
  char32_t code = first & (0x7Fu >> lead.length);
  for (size_t i = 1; i < lead.length; ++i) {
    if (position + i >= text.size()) return {kReplacementCharacter, i, false, true};
    const uint8_t next = byte(i);
    if (next < lead.low || next > lead.high) return {kReplacementCharacter, i, false, false};
    code = code << 6 | (next & 0x3Fu);
    lead.low = 0x80;
    lead.high = 0xBF;
  }
  return {code, lead.length, true, false};
}

void append_utf8(std::string& out, char32_t code) {
  const auto tail = [&](int shift) {
    out.push_back(static_cast<char>(0x80 | (code >> shift & 0x3F)));
  };
  if (code < 0x80) {
    out.push_back(static_cast<char>(code));
  } else if (code < 0x800) {
    out.push_back(static_cast<char>(0xC0 | code >> 6));
    tail(0);
  } else if (code < 0x10000) {
    out.push_back(static_cast<char>(0xE0 | code >> 12));
    tail(6);
    tail(0);
  } else {
    out.push_back(static_cast<char>(0xF0 | code >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

bool is_utf8(std::string_view text) {
  for (size_t position = 0;;) {
    position += ascii_run(text, position);
    if (position == text.size()) return true;
    const Utf8Char c = decode_utf8(text, position);
    if (!c.valid) return false;
    position += c.length;
  }
}

std::string repair_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t position = 0; position < text.size();) {
    const Utf8Char c = decode_utf8(text, position);
    if (c.valid) {
      out.append(text, position, c.length);
    } else {
      append_utf8(out, kReplacementCharacter);
    }
    position += c.length;
  }
  return out;
}

std::string Utf8Stream::push(std::string_view fragment) {
  pending_.append(fragment);
  size_t whole = pending_.size();
  // Only the last three bytes can belong to an unfinished character.
  for (size_t back = 1; back <= 3 && back <= pending_.size(); ++back) {
    const size_t start = pending_.size() - back;
    const Utf8Char c = decode_utf8(pending_, start);
    if (c.truncated && c.length == back) whole = start;
  }
  std::string out = repair_utf8(std::string_view(pending_).substr(0, whole));
  pending_.erase(0, whole);
  return out;
}

std::string Utf8Stream::finish() {
  std::string out = repair_utf8(pending_);
  pending_.clear();
  return out;
}

}  // namespace mneme
