#include "mneme/io/jinja/lexer.h"

#include <algorithm>
#include <cstdlib>

#include "mneme/core/error.h"
#include "mneme/io/jinja/limits.h"
#include "mneme/io/jinja/string_literal.h"
#include "mneme/io/jinja/unicode.h"

namespace mneme::jinja {
namespace {

using Kind = Token::Kind;

// Every line ends with "\n", and one newline at the end of the source is dropped, as jinja2 does.
std::string normalize(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      if (i + 1 < source.size() && source[i + 1] == '\n') continue;
      text.push_back('\n');
    } else {
      text.push_back(source[i]);
    }
  }
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

bool name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80);
}
bool digit(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(normalize(source)) {}

  std::vector<Token> run() {
    while (position_ < source_.size()) data();
    add(Kind::kEnd);
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fault(const std::string& message) const { fail("line ", line_, ": ", message); }
  std::string_view rest() const { return std::string_view(source_).substr(position_); }
  bool at(std::string_view text) const { return rest().substr(0, text.size()) == text; }

  Token& add(Kind kind, std::string text = "") {
    tokens_.push_back({kind, line_, std::move(text)});
    return tokens_.back();
  }
  void advance(size_t end) {
    line_ +=
        static_cast<int32_t>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(position_),
                                        source_.begin() + static_cast<std::ptrdiff_t>(end), '\n'));
    position_ = end;
  }
  size_t skip_space(size_t from) const {
    while (from < source_.size()) {
      const Character c = character_at(source_, from);
      if (!is_space(c.code)) break;
      from += static_cast<size_t>(c.bytes);
    }
    return from;
  }
  // Behind a closing tag that ends at `end`: '-' strips, '+' keeps, a bare one of a block drops a
  // newline.
  void close(char sign, size_t end, bool trims) {
    if (sign == '-') {
      end = skip_space(end);
    } else if (sign != '+' && trims && end < source_.size() && source_[end] == '\n') {
      ++end;
    }
    advance(end);
    line_starting_ = source_[end - 1] == '\n';
  }

  // The end of "{%[sign] ws WORD ws" when a tag of that word begins at `from`, or npos.
  size_t match_word_tag(size_t from, std::string_view word) const {
    size_t i = from + 2;
    if (i < source_.size() && (source_[i] == '-' || source_[i] == '+')) ++i;
    i = skip_space(i);
    if (std::string_view(source_).substr(i, word.size()) != word) return std::string::npos;
    return skip_space(i + word.size());
  }

  // Emits the text up to `end`, where a tag with `sign` begins.
  void emit_data(size_t begin, size_t end, char sign, bool variable) {
    std::string_view text = std::string_view(source_).substr(begin, end - begin);
    if (sign == '-') {
      while (!text.empty()) {
        const size_t last = previous_character(text, text.size());
        if (!is_space(character_at(text, last).code)) break;
        text = text.substr(0, last);
      }
    } else if (sign != '+' && !variable) {
      const size_t newline = text.rfind('\n');
      const size_t start = newline == std::string_view::npos ? 0 : newline + 1;
      if ((start > 0 || line_starting_) && skip_space(begin + start) >= end)
        text = text.substr(0, start);
    }
    if (!text.empty()) add(Kind::kData, std::string(text));
    advance(end);
  }

  char sign_at(size_t position) const {
    if (position >= source_.size()) return 0;
    return source_[position] == '-' || source_[position] == '+' ? source_[position] : '\0';
  }

  void data() {
    size_t tag = position_;
    while (true) {
      tag = source_.find('{', tag);
      if (tag == std::string::npos || tag + 1 >= source_.size()) {
        add(Kind::kData, source_.substr(position_));
        return advance(source_.size());
      }
      const char next = source_[tag + 1];
      if (next == '{' || next == '%' || next == '#') break;
      ++tag;
    }
    const char sign = sign_at(tag + 2);
    const char type = source_[tag + 1];
    emit_data(position_, tag, sign, type == '{');
    if (type == '#') return comment(tag + 2 + (sign ? 1 : 0));
    if (type == '%') {
      const size_t raw = match_word_tag(tag, "raw");
      if (raw != std::string::npos) {
        advance(raw);
        const bool strips = at("-%}");
        if (strips || at("%}")) {
          close(strips ? '-' : '+', raw + (strips ? 3 : 2), false);
          return raw_block();
        }
        advance_back(tag);
      }
    }
    add(type == '{' ? Kind::kVariableBegin : Kind::kBlockBegin);
    advance(tag + 2 + (sign ? 1 : 0));
    tag_body(type == '{');
  }

  void advance_back(size_t to) {
    line_ -= static_cast<int32_t>(
        std::count(source_.begin() + static_cast<std::ptrdiff_t>(to),
                   source_.begin() + static_cast<std::ptrdiff_t>(position_), '\n'));
    position_ = to;
  }

  void comment(size_t begin) {
    const size_t end = source_.find("#}", begin);
    if (end == std::string::npos) fault("this comment is not closed by '#}'");
    const char sign = end > begin ? sign_at(end - 1) : '\0';
    close(sign, end + 2, true);
  }

  void raw_block() {
    for (size_t tag = source_.find("{%", position_); tag != std::string::npos;
         tag = source_.find("{%", tag + 1)) {
      size_t end = match_word_tag(tag, "endraw");
      if (end == std::string::npos) continue;
      const char sign = sign_at(end);
      if (sign) ++end;
      if (std::string_view(source_).substr(end, 2) != "%}") continue;
      emit_data(position_, tag, sign_at(tag + 2), false);
      return close(sign, end + 2, true);
    }
    fault("this raw block is not closed by '{% endraw %}'");
  }

  void tag_body(bool variable) {
    const std::string_view closing = variable ? "}}" : "%}";
    std::string brackets;
    while (true) {
      advance(skip_space(position_));
      if (position_ >= source_.size()) {
        fault(concat("the tag is not closed by '", closing, "'"));
      }
      if (brackets.empty()) {
        const char sign = sign_at(position_);
        const bool signed_end =
            sign && !(variable && sign == '+') && rest().substr(1, 2) == closing;
        if (signed_end || at(closing)) {
          add(variable ? Kind::kVariableEnd : Kind::kBlockEnd);
          return close(signed_end ? sign : '\0', position_ + (signed_end ? 3 : 2), !variable);
        }
      }
      const char c = source_[position_];
      if (digit(c)) {
        number();
      } else if (name_start(c)) {
        size_t end = position_ + 1;
        while (end < source_.size() && (name_start(source_[end]) || digit(source_[end]))) ++end;
        add(Kind::kName, source_.substr(position_, end - position_));
        advance(end);
      } else if (c == '"' || c == '\'') {
        string(c);
      } else {
        operation(&brackets);
      }
    }
  }

  void string(char quote) {
    size_t end = position_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) fault("this text is not closed by its quote");
    const std::string_view inside =
        std::string_view(source_).substr(position_ + 1, end - position_ - 1);
    std::string value;
    try {
      value = unescape_literal(inside);
    } catch (const Error& error) {
      fault(error.what());
    }
    add(Kind::kString, std::move(value));
    advance(end + 1);
  }

  void operation(std::string* brackets) {
    constexpr std::string_view kOperators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                               "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                               ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    for (const std::string_view candidate : kOperators) {
      if (!at(candidate)) continue;
      const char c = candidate[0];
      if (c == '(' || c == '[' || c == '{') brackets->push_back(c);
      if (c == ')' || c == ']' || c == '}') {
        const char open = c == ')' ? '(' : c == ']' ? '[' : '{';
        if (brackets->empty() || brackets->back() != open)
          fault(concat("'", c, "' closes no bracket"));
        brackets->pop_back();
      }
      add(Kind::kOperator, std::string(candidate));
      return advance(position_ + candidate.size());
    }
    fault(concat("the character '", source_[position_], "' has no meaning here"));
  }

  // Digits with single underscores between them, from `end` on; appended to `digits`.
  size_t scan_digits(size_t end, std::string* digits, bool (*accept)(char)) const {
    while (end < source_.size()) {
      if (accept(source_[end])) {
        digits->push_back(source_[end++]);
      } else if (source_[end] == '_' && end + 1 < source_.size() && accept(source_[end + 1])) {
        ++end;
      } else {
        break;
      }
    }
    return end;
  }

  void number() {
    const bool after_dot = position_ > 0 && source_[position_ - 1] == '.';
    const char next =
        position_ + 1 < source_.size() ? static_cast<char>(source_[position_ + 1] | 0x20) : 0;
    if (source_[position_] == '0' && (next == 'x' || next == 'o' || next == 'b')) {
      std::string digits;
      const int base = next == 'x' ? 16 : next == 'o' ? 8 : 2;
      const auto accept = [](char c) {
        return digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
      };
      const size_t end = scan_digits(position_ + 2, &digits, accept);
      if (!digits.empty()) return add_integer(digits, base, end);
    }
    std::string digits;
    size_t end = scan_digits(position_, &digits, digit);
    const size_t integer_end = end;
    bool real = false;
    std::string spelling = digits;
    if (!after_dot && end + 1 < source_.size() && source_[end] == '.' && digit(source_[end + 1])) {
      spelling.push_back('.');
      end = scan_digits(end + 1, &spelling, digit);
      real = true;
    }
    if (!after_dot && end < source_.size() && (source_[end] | 0x20) == 'e') {
      size_t exponent = end + 1;
      std::string part = "e";
      if (sign_at(exponent)) part.push_back(source_[exponent++]);
      if (exponent < source_.size() && digit(source_[exponent])) {
        end = scan_digits(exponent, &part, digit);
        spelling += part;
        real = true;
      }
    }
    if (!real) return add_integer(digits, 10, integer_end);
    add(Kind::kFloat).real = std::strtod(spelling.c_str(), nullptr);
    advance(end);
  }

  void add_integer(const std::string& digits, int base, size_t end) {
    int64_t value = 0;
    for (const char c : digits) {
      const int place = digit(c) ? c - '0' : (c | 0x20) - 'a' + 10;
      if (place >= base) fault(concat("'", c, "' is no digit of base ", base));
      if (__builtin_mul_overflow(value, int64_t{base}, &value) ||
          __builtin_add_overflow(value, int64_t{place}, &value))
        fault(concat("the number ", digits, " does not fit 64 bits"));
    }
    add(Kind::kInteger).integer = value;
    advance(end);
  }

  std::string source_;
  size_t position_ = 0;
  int32_t line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) {
  MNEME_CHECK(static_cast<int64_t>(source.size()) <= kMaxSourceBytes, "line 1: the template has ",
              source.size(), " bytes, at most ", kMaxSourceBytes, " are read");
  return Lexer(source).run();
}

}  // namespace mneme::jinja
