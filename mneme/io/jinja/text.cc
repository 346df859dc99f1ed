#include "mneme/io/jinja/text.h"

#include <algorithm>

#include "mneme/core/error.h"
#include "mneme/io/jinja/limits.h"
#include "mneme/io/jinja/unicode.h"

namespace mneme::jinja {
namespace {

bool contains_character(const std::string& characters, std::string_view one) {
  for (size_t i = 0; i < characters.size();) {
    const auto length = static_cast<size_t>(character_at(characters, i).bytes);
    if (std::string_view(characters).substr(i, length) == one) return true;
    i += length;
  }
  return false;
}

// Applies `convert(code, position, out)` to every character; invalid bytes pass unchanged.
template <typename Convert>
Text convert_characters(const Text& text, Convert&& convert) {
  Text result;
  std::string piece;
  for (size_t i = 0; i < text.bytes().size();) {
    const Character c = character_at(text.bytes(), i);
    if (c.code < 0) {
      result.append(text, i, 1);
    } else {
      piece.clear();
      convert(c.code, i, &piece);
      result.append(piece, text.source_at(i));
    }
    i += static_cast<size_t>(c.bytes);
  }
  return result;
}

// Python's Final_Sigma rule: a capital sigma at the end of a word becomes the final form.
void append_lower(const std::string& bytes, size_t position, int32_t code, std::string* out) {
  if (code != 0x3A3) return append_case(code, Case::kLower, out);
  const auto ignorable = [](int32_t c) {
    return c == '\'' || c == '.' || c == 0xAD || c == 0x2019;
  };
  bool before = false, after = false;
  for (size_t i = position; i > 0;) {
    i = previous_character(bytes, i);
    const int32_t c = character_at(bytes, i).code;
    if (ignorable(c)) continue;
    before = is_cased(c);
    break;
  }
  for (size_t i = position + 2; i < bytes.size();) {
    const Character c = character_at(bytes, i);
    i += static_cast<size_t>(c.bytes);
    if (ignorable(c.code)) continue;
    after = is_cased(c.code);
    break;
  }
  append_utf8(before && !after ? 0x3C2 : 0x3C3, out);
}

}  // namespace

Text::Text(std::string bytes, Source source) : bytes_(std::move(bytes)) {
  MNEME_CHECK(static_cast<int64_t>(bytes_.size()) <= kMaxTextBytes, "a text of ", bytes_.size(),
              " bytes is longer than ", kMaxTextBytes);
  if (source == Source::kInput) from_input_.assign(bytes_.size(), static_cast<char>(source));
}

void Text::append(const Text& other, size_t from, size_t count) {
  MNEME_CHECK(static_cast<int64_t>(bytes_.size() + count) <= kMaxTextBytes,
              "the text grows beyond ", kMaxTextBytes, " bytes");
  if (count == 0) return;
  if (!other.from_input_.empty()) {
    from_input_.resize(bytes_.size(), static_cast<char>(Source::kTemplate));
    from_input_.append(other.from_input_, from, count);
  } else if (!from_input_.empty()) {
    from_input_.append(count, static_cast<char>(Source::kTemplate));
  }
  bytes_.append(other.bytes_, from, count);
}

void Text::append(std::string_view bytes, Source source) {
  MNEME_CHECK(static_cast<int64_t>(bytes_.size() + bytes.size()) <= kMaxTextBytes,
              "the text grows beyond ", kMaxTextBytes, " bytes");
  if (bytes.empty()) return;
  if (source == Source::kInput || !from_input_.empty()) {
    from_input_.resize(bytes_.size(), static_cast<char>(Source::kTemplate));
    from_input_.append(bytes.size(), static_cast<char>(source));
  }
  bytes_.append(bytes);
}

Text Text::slice(size_t from, size_t count) const {
  Text part;
  from = std::min(from, bytes_.size());
  part.append(*this, from, std::min(count, bytes_.size() - from));
  return part;
}

Text strip(const Text& text, Side side, const std::string* characters) {
  const std::string& bytes = text.bytes();
  const auto stripped = [&](size_t begin, size_t length) {
    if (characters)
      return contains_character(*characters, std::string_view(bytes).substr(begin, length));
    return is_space(character_at(bytes, begin).code);
  };
  size_t begin = 0, end = bytes.size();
  while (side != Side::kRight && begin < end) {
    const auto length = static_cast<size_t>(character_at(bytes, begin).bytes);
    if (!stripped(begin, length)) break;
    begin += length;
  }
  while (side != Side::kLeft && end > begin) {
    const size_t last = previous_character(bytes, end);
    if (!stripped(last, end - last)) break;
    end = last;
  }
  return text.slice(begin, end - begin);
}

Text replace(const Text& text, std::string_view old, const Text& replacement, int64_t count) {
  const std::string& bytes = text.bytes();
  Text result;
  size_t position = 0;
  if (old.empty()) {  // Python puts the replacement before every character and at the end
    for (; count != 0; --count) {
      result.append(replacement);
      if (position >= bytes.size()) break;
      const auto length = static_cast<size_t>(character_at(bytes, position).bytes);
      result.append(text, position, length);
      position += length;
    }
  }
  while (!old.empty() && count != 0) {
    const size_t found = bytes.find(old, position);
    if (found == std::string::npos) break;
    result.append(text, position, found - position);
    result.append(replacement);
    position = found + old.size();
    --count;
  }
  result.append(text, position, bytes.size() - position);
  return result;
}

std::vector<Text> split_space(const Text& text, int64_t limit, bool from_right) {
  std::vector<std::pair<size_t, size_t>> words;
  const std::string& bytes = text.bytes();
  size_t begin = 0;
  bool inside = false;
  for (size_t i = 0; i < bytes.size();) {
    const Character c = character_at(bytes, i);
    const bool space = is_space(c.code);
    if (space && inside) words.emplace_back(begin, i);
    if (!space && !inside) begin = i;
    inside = !space;
    i += static_cast<size_t>(c.bytes);
  }
  if (inside) words.emplace_back(begin, bytes.size());
  const auto cuts = static_cast<int64_t>(words.size()) - 1;
  if (limit >= 0 && cuts > limit) {  // the rest stays one piece, its outer white space removed
    const auto kept = static_cast<size_t>(limit);
    if (from_right) {
      const size_t joined = words.size() - 1 - kept;
      words[joined].first = words.front().first;
      words.erase(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(joined));
      const Text rest = strip(text.slice(0, words[0].second), Side::kRight);
      words[0].first = 0;
      words[0].second = static_cast<size_t>(rest.size());
    } else {
      words.resize(kept + 1);
      words[kept].second = bytes.size();
    }
  }
  std::vector<Text> parts;
  parts.reserve(words.size());
  for (const auto& [from, to] : words) parts.push_back(text.slice(from, to - from));
  return parts;
}

std::vector<Text> split(const Text& text, std::string_view separator, int64_t limit,
                        bool from_right) {
  std::vector<Text> parts;
  const std::string& bytes = text.bytes();
  if (from_right) {
    size_t end = bytes.size();
    while (limit != 0) {
      if (end < separator.size()) break;
      const size_t found = bytes.rfind(separator, end - separator.size());
      if (found == std::string::npos) break;
      parts.push_back(text.slice(found + separator.size(), end - found - separator.size()));
      end = found;
      --limit;
    }
    parts.push_back(text.slice(0, end));
    std::reverse(parts.begin(), parts.end());
    return parts;
  }
  size_t begin = 0;
  while (limit != 0) {
    const size_t found = bytes.find(separator, begin);
    if (found == std::string::npos) break;
    parts.push_back(text.slice(begin, found - begin));
    begin = found + separator.size();
    --limit;
  }
  parts.push_back(text.slice(begin, bytes.size() - begin));
  return parts;
}

std::vector<Text> split_lines(const Text& text, bool keep_ends) {
  std::vector<Text> lines;
  const std::string& bytes = text.bytes();
  size_t begin = 0;
  for (size_t i = 0; i < bytes.size();) {
    const Character c = character_at(bytes, i);
    auto length = static_cast<size_t>(c.bytes);
    const bool ends = (c.code >= 0x0A && c.code <= 0x0D) || (c.code >= 0x1C && c.code <= 0x1E) ||
                      c.code == 0x85 || c.code == 0x2028 || c.code == 0x2029;
    if (ends) {
      if (c.code == '\r' && i + 1 < bytes.size() && bytes[i + 1] == '\n') length = 2;
      lines.push_back(text.slice(begin, (keep_ends ? i + length : i) - begin));
      begin = i + length;
    }
    i += length;
  }
  if (begin < bytes.size()) lines.push_back(text.slice(begin, bytes.size() - begin));
  return lines;
}

std::vector<Text> split_characters(const Text& text) {
  std::vector<Text> parts;
  for (size_t i = 0; i < text.bytes().size();) {
    const auto length = static_cast<size_t>(character_at(text.bytes(), i).bytes);
    parts.push_back(text.slice(i, length));
    i += length;
  }
  return parts;
}

Text join(const std::vector<Text>& parts, const Text& separator) {
  Text result;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i) result.append(separator);
    result.append(parts[i]);
  }
  return result;
}

Text upper(const Text& text) {
  return convert_characters(
      text, [](int32_t code, size_t, std::string* out) { append_case(code, Case::kUpper, out); });
}

Text lower(const Text& text) {
  return convert_characters(text, [&](int32_t code, size_t position, std::string* out) {
    append_lower(text.bytes(), position, code, out);
  });
}

Text capitalize(const Text& text) {
  if (text.empty()) return text;
  const auto first = static_cast<size_t>(character_at(text.bytes(), 0).bytes);
  Text result = convert_characters(
      text.slice(0, first),
      [](int32_t code, size_t, std::string* out) { append_case(code, Case::kTitle, out); });
  const Text low = lower(text);
  const auto skipped = static_cast<size_t>(lower(text.slice(0, first)).size());
  result.append(low, skipped, low.bytes().size() - skipped);
  return result;
}

Text title(const Text& text) {
  bool after_letter = false;
  return convert_characters(text, [&](int32_t code, size_t position, std::string* out) {
    if (after_letter) {
      append_lower(text.bytes(), position, code, out);
    } else {
      append_case(code, Case::kTitle, out);
    }
    after_letter = is_cased(code);
  });
}

Text reversed(const Text& text) {
  Text result;
  for (size_t end = text.bytes().size(); end > 0;) {
    const size_t begin = previous_character(text.bytes(), end);
    result.append(text, begin, end - begin);
    end = begin;
  }
  return result;
}

Text repeat(const Text& text, int64_t times) {
  Text result;
  if (text.empty()) return result;
  MNEME_CHECK(times <= kMaxTextBytes / text.size(), "a text of ", text.size(), " bytes repeated ",
              times, " times is longer than ", kMaxTextBytes, " bytes");
  for (int64_t i = 0; i < times; ++i) result.append(text);
  return result;
}

Text slice_characters(const Text& text, int64_t start, int64_t count, int64_t step) {
  std::vector<size_t> offsets;
  for (size_t i = 0; i < text.bytes().size();
       i += static_cast<size_t>(character_at(text.bytes(), i).bytes))
    offsets.push_back(i);
  offsets.push_back(text.bytes().size());
  Text result;
  for (int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<size_t>(start + i * step);
    result.append(text, offsets[at], offsets[at + 1] - offsets[at]);
  }
  return result;
}

Text escape_html(const Text& text) {
  Text result;
  for (size_t i = 0; i < text.bytes().size(); ++i) {
    const char* entity = nullptr;
    switch (text.bytes()[i]) {
      case '&':
        entity = "&amp;";
        break;
      case '<':
        entity = "&lt;";
        break;
      case '>':
        entity = "&gt;";
        break;
      case '"':
        entity = "&#34;";
        break;
      case '\'':
        entity = "&#39;";
        break;
      default:
        break;
    }
    if (entity) {
      result.append(entity, text.source_at(i));
    } else {
      result.append(text, i, 1);
    }
  }
  result.set_markup(true);
  return result;
}

Text pad(const Text& text, int64_t width, char alignment, const Text& fill) {
  const int64_t missing = width - count_characters(text.bytes());
  if (missing <= 0) return text;
  // str.center() puts the odd blank left only when the width is odd; '^' of format() always right.
  const int64_t left = alignment == '>' ? missing : alignment == '^' ? missing / 2 : 0;
  Text result = repeat(fill, left);
  result.append(text);
  result.append(repeat(fill, missing - left));
  return result;
}

}  // namespace mneme::jinja
