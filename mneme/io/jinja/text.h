// A text that remembers, byte by byte, whether the template wrote it or it was copied from the
// input (message contents, roles, tool data). Every operation keeps that record, so that control
// tokens spelled out by a user can be told from the template's own. Tests: text_test.cc.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mneme::jinja {

enum class Source : char { kTemplate = 0, kInput = 1 };

class Text {
 public:
  Text() = default;
  explicit Text(std::string bytes, Source source = Source::kTemplate);

  const std::string& bytes() const { return bytes_; }
  int64_t size() const { return static_cast<int64_t>(bytes_.size()); }
  bool empty() const { return bytes_.empty(); }
  bool has_input() const { return !from_input_.empty(); }
  Source source_at(size_t position) const {
    return from_input_.empty() ? Source::kTemplate : static_cast<Source>(from_input_[position]);
  }

  // All append functions throw Error when the result would pass kMaxTextBytes.
  void append(const Text& other) { append(other, 0, other.bytes_.size()); }
  void append(const Text& other, size_t from, size_t count);
  void append(std::string_view bytes, Source source = Source::kTemplate);
  Text slice(size_t from, size_t count) const;

  // The result of escaping for HTML: `+` with such a text escapes the other side, as markupsafe
  // does.
  bool markup() const { return markup_; }
  void set_markup(bool markup) { markup_ = markup; }

 private:
  std::string bytes_;
  std::string from_input_;  // one Source a byte, or empty when all of it is the template's
  bool markup_ = false;
};

// Python's str operations. Positions and counts are in bytes unless `characters` is said.
enum class Side { kLeft, kRight, kBoth };
// strip(): white space, or any character of `characters`.
Text strip(const Text& text, Side side, const std::string* characters = nullptr);
Text replace(const Text& text, std::string_view old, const Text& replacement, int64_t count = -1);
// split() at white space; at most `limit` cuts (< 0: no limit).
std::vector<Text> split_space(const Text& text, int64_t limit, bool from_right = false);
// split(separator), separator not empty.
std::vector<Text> split(const Text& text, std::string_view separator, int64_t limit,
                        bool from_right = false);
std::vector<Text> split_lines(const Text& text, bool keep_ends);
std::vector<Text> split_characters(const Text& text);
Text join(const std::vector<Text>& parts, const Text& separator);
Text upper(const Text& text);
Text lower(const Text& text);
Text capitalize(const Text& text);
// str.title(): a letter after a non-letter is raised.
Text title(const Text& text);
Text reversed(const Text& text);
Text repeat(const Text& text, int64_t times);
// text[start:stop:step] in characters, bounds already clipped as PySlice_AdjustIndices does.
Text slice_characters(const Text& text, int64_t start, int64_t count, int64_t step);
// HTML escaping of & < > " '
Text escape_html(const Text& text);
// `width` characters wide at least: alignment '<', '>' or '^'.
Text pad(const Text& text, int64_t width, char alignment, const Text& fill);

}  // namespace mneme::jinja
