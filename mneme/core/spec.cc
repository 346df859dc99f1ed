#include "mneme/core/spec.h"

#include <algorithm>
#include <cctype>
#include <numeric>

#include "mneme/core/error.h"

namespace mneme {
namespace {

constexpr size_t kMaxSpecLength = 4096;

class SpecParser {
 public:
  explicit SpecParser(std::string_view text) : text_(text) {}

  Spec parse() {
    if (text_.size() > kMaxSpecLength) {
      fail("memory spec: at most ", kMaxSpecLength, " characters, got ", text_.size());
    }
    Spec spec{std::string(text_), {}};
    do {
      spec.terms.push_back(term());
    } while (accept('+'));
    skip_blanks();
    if (at_ < text_.size()) expected("'+' or the end");
    return spec;
  }

 private:
  SpecTerm term() {
    SpecTerm term;
    term.name = name("a memory name");
    term.position = start_;
    if (!accept('(') || accept(')')) return term;
    do {
      SpecArgument argument;
      argument.key = name("a parameter name");
      argument.position = start_;
      if (term.find(argument.key) != nullptr) {
        throw Error(
            spec_error(text_, start_, concat("parameter '", argument.key, "' is given twice")));
      }
      if (!accept('=')) expected("'='");
      argument.value = value();
      term.arguments.push_back(std::move(argument));
    } while (accept(','));
    if (!accept(')')) expected("',' or ')'");
    return term;
  }

  std::string name(const char* what) {
    skip_blanks();
    start_ = static_cast<int64_t>(at_);
    const auto is_letter = [](char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0; };
    if (at_ >= text_.size() || !is_letter(text_[at_])) expected(what);
    return take([&](char c) {
      return is_letter(c) || std::isdigit(static_cast<unsigned char>(c)) || c == '-' || c == '_';
    });
  }

  std::string value() {
    skip_blanks();
    std::string taken =
        take([](char c) { return std::string_view(",()+= \t").find(c) == std::string_view::npos; });
    if (taken.empty()) expected("a value");
    return taken;
  }

  template <typename Predicate>
  std::string take(Predicate belongs) {
    const size_t begin = at_;
    while (at_ < text_.size() && belongs(text_[at_])) ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }

  bool accept(char c) {
    skip_blanks();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  void skip_blanks() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t')) ++at_;
  }

  [[noreturn]] void expected(std::string_view what) {
    throw Error(spec_error(text_, static_cast<int64_t>(at_), concat("expected ", what)));
  }

  std::string_view text_;
  size_t at_ = 0;
  int64_t start_ = 0;  // where the last name began
};

int64_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<int64_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 0; i < a.size(); ++i) {
    int64_t diagonal = row[0]++;
    for (size_t j = 0; j < b.size(); ++j) {
      const int64_t replace = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replace, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

const SpecArgument* SpecTerm::find(std::string_view key) const {
  const auto found = std::ranges::find(arguments, key, &SpecArgument::key);
  return found == arguments.end() ? nullptr : &*found;
}

Spec parse_spec(std::string_view text) { return SpecParser(text).parse(); }

std::string spec_text(const std::vector<SpecTerm>& terms) {
  std::string text;
  for (const SpecTerm& term : terms) {
    if (!text.empty()) text += '+';
    text += term.name;
    if (term.arguments.empty()) continue;
    char separator = '(';
    for (const SpecArgument& argument : term.arguments) {
      text += separator + argument.key + "=" + argument.value;
      separator = ',';
    }
    text += ')';
  }
  return text;
}

std::string spec_error(std::string_view text, int64_t position, std::string_view message) {
  return concat("memory spec, character ", position + 1, ": ", message, "\n  ", text, "\n  ",
                std::string(static_cast<size_t>(position), ' '), "^");
}

std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates) {
  std::string best;
  int64_t best_distance = static_cast<int64_t>(name.size() + 1) / 2 + 1;
  for (const std::string& candidate : candidates) {
    const int64_t distance = edit_distance(name, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace mneme
