#include "mneme/io/pretokenizer.h"

#include <utf8proc.h>

#include <array>
#include <cstdint>
#include <string>

#include "mneme/core/error.h"
#include "mneme/io/utf8.h"

namespace mneme {
namespace {

using Emit = FunctionRef<void(std::string_view)>;

constexpr PreTokenizerRule kRules[] = {
    {"default", PreTokenizer::kDefault},
    {"smollm", PreTokenizer::kSmolLm},
    {"starcoder", PreTokenizer::kSmolLm},
    {"refact", PreTokenizer::kSmolLm},
    {"command-r", PreTokenizer::kSmolLm},
    {"codeshell", PreTokenizer::kSmolLm},
    {"exaone", PreTokenizer::kSmolLm},
    {"minerva-7b", PreTokenizer::kSmolLm},
    {"gpt-2", PreTokenizer::kGpt2},
    {"phi-2", PreTokenizer::kGpt2},
    {"mpt", PreTokenizer::kGpt2},
    {"olmo", PreTokenizer::kGpt2},
    {"jais", PreTokenizer::kGpt2},
    {"llama-bpe", PreTokenizer::kLlama3, true, true},
    {"llama3", PreTokenizer::kLlama3, true, true},
    {"llama-v3", PreTokenizer::kLlama3, true, true},
    {"dbrx", PreTokenizer::kLlama3},
    {"smaug-bpe", PreTokenizer::kLlama3},
    {"qwen2", PreTokenizer::kQwen2},
    {"deepseek-r1-qwen", PreTokenizer::kQwen2},
    {"stablelm2", PreTokenizer::kQwen2},
};

enum class Kind : uint8_t { kEnd, kLetter, kNumber, kSpace, kPunctuation, kOther };

// Unicode's White_Space property: \s of the regular expressions above.
bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

Kind kind_of(char32_t c) {
  if (is_space(c)) return Kind::kSpace;
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO) return Kind::kLetter;
  if (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO) return Kind::kNumber;
  if (category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO)
    return Kind::kPunctuation;
  return Kind::kOther;
}

const std::array<Kind, 128>& ascii_kinds() {
  static const std::array<Kind, 128> kinds = [] {
    std::array<Kind, 128> table{};
    for (size_t i = 0; i < table.size(); ++i) table[i] = kind_of(static_cast<char32_t>(i));
    return table;
  }();
  return kinds;
}

// Positions are bytes; at() beyond the end gives Kind::kEnd, as the regular expressions see it.
class Text {
 public:
  struct Char {
    size_t length;
    Kind kind;
  };

  explicit Text(std::string_view bytes) : bytes_(bytes) {}

  size_t size() const { return bytes_.size(); }
  char byte(size_t position) const { return position < size() ? bytes_[position] : '\0'; }
  bool is_newline(size_t position) const {
    return byte(position) == '\r' || byte(position) == '\n';
  }
  Char at(size_t position) const {
    if (position >= size()) return {0, Kind::kEnd};
    const auto first = static_cast<uint8_t>(bytes_[position]);
    if (first < 0x80) return {1, ascii_[first]};
    const Utf8Char c = decode_utf8(bytes_, position);
    return {c.length, kind_of(c.code_point)};
  }
  template <typename Predicate>
  size_t run_end(size_t position, Predicate accepts) const {
    for (Char c = at(position); c.kind != Kind::kEnd && accepts(c.kind); c = at(position))
      position += c.length;
    return position;
  }
  size_t run_end(size_t position, Kind kind) const {
    return run_end(position, [kind](Kind other) { return other == kind; });
  }
  std::string_view slice(size_t begin, size_t end) const {
    return bytes_.substr(begin, end - begin);
  }

 private:
  std::string_view bytes_;
  const std::array<Kind, 128>& ascii_ = ascii_kinds();
};

bool is_symbol(Kind kind) { return kind == Kind::kPunctuation || kind == Kind::kOther; }

// End of one of 's 't 're 've 'm 'll 'd at `position`, or `position` where none begins.
size_t contraction_end(const Text& text, size_t position, bool ignore_case) {
  if (text.byte(position) != '\'') return position;
  const auto letter = [&](size_t at) {
    const char c = text.byte(at);
    return ignore_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  };
  const char first = letter(position + 1);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return position + 2;
  const char second = letter(position + 2);
  if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') ||
      (first == 'l' && second == 'l'))
    return position + 3;
  return position;
}

// End of \s+(?!\S)|\s+ : a run of blanks leaves its last one to the word that follows.
size_t blanks_end(const Text& text, size_t position) {
  size_t end = position;
  size_t last = position;
  for (Text::Char c = text.at(end); c.kind == Kind::kSpace; c = text.at(end)) {
    last = end;
    end += c.length;
  }
  return end < text.size() && last > position ? last : end;
}

void split_gpt2(std::string_view bytes, Emit emit) {
  const Text text(bytes);
  for (size_t begin = 0; begin < text.size();) {
    size_t end = contraction_end(text, begin, false);
    if (end == begin) {
      const size_t body = text.byte(begin) == ' ' ? begin + 1 : begin;
      const Kind kind = text.at(body).kind;
      if (kind == Kind::kSpace || kind == Kind::kEnd) {
        end = blanks_end(text, begin);
      } else if (is_symbol(kind)) {
        end = text.run_end(body, is_symbol);
      } else {
        end = text.run_end(body, kind);
      }
    }
    emit(text.slice(begin, end));
    begin = end;
  }
}

// End of \s*[\r\n]+ at `position`, or `position` where the run of blanks has no line break.
size_t line_break_end(const Text& text, size_t position) {
  size_t end = position;
  for (Text::Char c = text.at(position); c.kind == Kind::kSpace; c = text.at(position)) {
    position += c.length;
    if (text.is_newline(position - 1)) end = position;
  }
  return end;
}

size_t llama3_word_end(const Text& text, size_t begin, int max_digits) {
  if (const size_t end = contraction_end(text, begin, true); end > begin) return end;
  const Text::Char first = text.at(begin);
  if (first.kind == Kind::kNumber) {
    size_t end = begin;
    for (int digits = 0; digits < max_digits && text.at(end).kind == Kind::kNumber; ++digits)
      end += text.at(end).length;
    return end;
  }
  if (first.kind == Kind::kLetter) return text.run_end(begin, Kind::kLetter);
  if (!text.is_newline(begin) && text.at(begin + first.length).kind == Kind::kLetter)
    return text.run_end(begin + first.length, Kind::kLetter);
  const size_t body = text.byte(begin) == ' ' ? begin + 1 : begin;
  if (is_symbol(text.at(body).kind)) {
    size_t end = text.run_end(body, is_symbol);
    while (text.is_newline(end)) ++end;
    return end;
  }
  if (const size_t end = line_break_end(text, begin); end > begin) return end;
  return blanks_end(text, begin);
}

void split_llama3(std::string_view bytes, int max_digits, Emit emit) {
  const Text text(bytes);
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = llama3_word_end(text, begin, max_digits);
    emit(text.slice(begin, end));
    begin = end;
  }
}

// Alternating runs of characters that `is_member(character, position)` accepts and refuses.
template <typename Member>
void split_runs(std::string_view bytes, Member is_member, Emit emit) {
  const Text text(bytes);
  for (size_t begin = 0; begin < text.size();) {
    const bool member = is_member(text, begin);
    size_t end = begin;
    do {
      end += text.at(end).length;
    } while (end < text.size() && is_member(text, end) == member);
    emit(text.slice(begin, end));
    begin = end;
  }
}

bool is_number(const Text& text, size_t position) {
  return text.at(position).kind == Kind::kNumber;
}

void split_smollm(std::string_view bytes, Emit emit) {
  split_runs(bytes, is_number, [&](std::string_view part) {
    const Text text(part);
    if (!is_number(text, 0)) return split_gpt2(part, emit);
    for (size_t at = 0; at < text.size(); at += text.at(at).length)
      emit(text.slice(at, at + text.at(at).length));
  });
}

// [0-9][0-9][0-9] from the left; what lies between the matches stays together.
void split_digit_triples(std::string_view bytes, Emit emit) {
  const auto is_digit = [&](size_t at) { return bytes[at] >= '0' && bytes[at] <= '9'; };
  size_t begin = 0;
  for (size_t at = 0; at + 3 <= bytes.size();) {
    if (!is_digit(at) || !is_digit(at + 1) || !is_digit(at + 2)) {
      ++at;
      continue;
    }
    if (at > begin) emit(bytes.substr(begin, at - begin));
    emit(bytes.substr(at, 3));
    at += 3;
    begin = at;
  }
  if (begin < bytes.size()) emit(bytes.substr(begin));
}

void split_default(std::string_view bytes, Emit emit) {
  const auto is_mark = [](const Text& text, size_t position) {
    return text.at(position).kind == Kind::kPunctuation ||
           std::string_view("$+<=>^~|").find(text.byte(position)) != std::string_view::npos;
  };
  split_runs(bytes, is_mark, [&](std::string_view part) {
    split_gpt2(part, [&](std::string_view word) {
      split_runs(word, is_number, [&](std::string_view run) { split_digit_triples(run, emit); });
    });
  });
}

}  // namespace

const PreTokenizerRule& find_pretokenizer(std::string_view name) {
  std::string known;
  for (const PreTokenizerRule& rule : kRules) {
    if (rule.name == name) return rule;
    known.append(known.empty() ? "" : ", ").append(rule.name);
  }
  fail("unknown pre-tokeniser '", name, "'; known: ", known);
}

void pretokenize(PreTokenizer rule, std::string_view text, Emit emit) {
  switch (rule) {
    case PreTokenizer::kGpt2:
      return split_gpt2(text, emit);
    case PreTokenizer::kSmolLm:
      return split_smollm(text, emit);
    case PreTokenizer::kDefault:
      return split_default(text, emit);
    case PreTokenizer::kLlama3:
      return split_llama3(text, 3, emit);
    case PreTokenizer::kQwen2:
      return split_llama3(text, 1, emit);
  }
}

}  // namespace mneme
