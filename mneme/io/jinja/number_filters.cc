// Filters on numbers: abs, float, int, round.
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "mneme/core/error.h"
#include "mneme/io/jinja/builtins.h"
#include "mneme/io/jinja/operators.h"

namespace mneme::jinja {
namespace {

// Removes the underscores that Python allows between digits; nothing when they stand elsewhere.
std::optional<std::string> without_underscores(const std::string& text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      result.push_back(text[i]);
      continue;
    }
    const auto alphanumeric = [&](size_t at) {
      return at < text.size() && std::isalnum(static_cast<unsigned char>(text[at]));
    };
    if (i == 0 || !alphanumeric(i - 1) || !alphanumeric(i + 1)) return std::nullopt;
  }
  return result;
}

std::optional<double> parse_float(const Text& input) {
  const auto text = without_underscores(strip(input, Side::kBoth).bytes());
  if (!text || text->empty()) return std::nullopt;
  const size_t sign = (*text)[0] == '+' || (*text)[0] == '-' ? 1 : 0;
  std::string word = text->substr(sign);
  for (char& c : word) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const double factor = sign && (*text)[0] == '-' ? -1 : 1;
  if (word == "inf" || word == "infinity") return factor * HUGE_VAL;
  if (word == "nan") return NAN;
  if (word.find_first_not_of("0123456789.e+-") != std::string::npos || word[0] == '+' ||
      word[0] == '-')
    return std::nullopt;
  char* end = nullptr;
  const double value = std::strtod(word.c_str(), &end);
  if (word.empty() || end != word.c_str() + word.size()) return std::nullopt;
  return factor * value;
}

std::optional<int64_t> parse_int(const Text& input, int64_t base) {
  auto text = without_underscores(strip(input, Side::kBoth).bytes());
  if (!text || text->empty()) return std::nullopt;
  const bool negative = (*text)[0] == '-';
  if (negative || (*text)[0] == '+') text->erase(0, 1);
  const std::string prefix = text->substr(0, 2);
  const int64_t prefix_base = prefix == "0x" || prefix == "0X"   ? 16
                              : prefix == "0o" || prefix == "0O" ? 8
                              : prefix == "0b" || prefix == "0B" ? 2
                                                                 : 0;
  if (prefix_base && (base == prefix_base || base == 0)) {
    text->erase(0, 2);
    base = prefix_base;
  }
  if (base == 0) base = 10;
  MNEME_CHECK(base >= 2 && base <= 36, "int: the base must be 0 or 2..36, got ", base);
  if (text->empty() || (*text)[0] == '-' || (*text)[0] == '+') return std::nullopt;
  if (negative) text->insert(0, "-");
  int64_t value = 0;
  const auto [end, error] =
      std::from_chars(text->data(), text->data() + text->size(), value, static_cast<int>(base));
  MNEME_CHECK(error != std::errc::result_out_of_range, "int: ", *text, " does not fit 64 bits");
  if (error != std::errc() || end != text->data() + text->size()) return std::nullopt;
  return value;
}

// int(float), or nothing for NaN and infinity.
std::optional<int64_t> truncated(double value) {
  if (std::isnan(value) || std::isinf(value)) return std::nullopt;
  MNEME_CHECK(value > -9.2e18 && value < 9.2e18, "int: ", value, " does not fit 64 bits");
  return static_cast<int64_t>(value);
}

Value int_filter(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("int", arguments, {"default", "base"});
  if (input.is_undefined()) fail(input.undefined_message());
  std::optional<int64_t> result;
  if (input.is_integral()) {
    result = input.as_int();
  } else if (input.is_number()) {
    result = truncated(input.as_double());
  } else if (input.is_text()) {
    result = parse_int(input.as_text(), bound.integer(1, 10));
    if (!result)
      if (const auto number = parse_float(input.as_text())) result = truncated(*number);
  }
  if (result) return Value(*result);
  return bound.has(0) ? bound.at(0) : Value(int64_t{0});
}

Value float_filter(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("float", arguments, {"default"});
  if (input.is_undefined()) fail(input.undefined_message());
  if (input.is_number()) return Value(input.as_double());
  if (input.is_text())
    if (const auto number = parse_float(input.as_text())) return Value(*number);
  return bound.has(0) ? bound.at(0) : Value(0.0);
}

Value abs_filter(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("abs", arguments, {});
  if (input.is_undefined()) fail(input.undefined_message());
  MNEME_CHECK(input.is_number(), "abs needs a number, got '", type_name(input), "'");
  if (input.is_integral()) return input.as_int() < 0 ? negate(input) : Value(input.as_int());
  return Value(std::fabs(input.as_double()));
}

Value round_filter(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("round", arguments, {"precision", "method"});
  if (input.is_undefined()) fail(input.undefined_message());
  MNEME_CHECK(input.is_number(), "round needs a number, got '", type_name(input), "'");
  const int64_t precision = bound.integer(0, 0);
  const std::string method = bound.has(1) ? bound.text(1).bytes() : "common";
  MNEME_CHECK(method == "common" || method == "ceil" || method == "floor",
              "round: the method must be common, ceil or floor, got '", method, "'");
  MNEME_CHECK(precision >= -300 && precision <= 300, "round: a precision of ", precision,
              " is out of range");
  const double value = input.as_double();
  if (method != "common") {
    const double scale = std::pow(10.0, static_cast<double>(precision));
    const double scaled = method == "ceil" ? std::ceil(value * scale) : std::floor(value * scale);
    return Value(scaled / scale);
  }
  if (input.is_integral() && precision >= 0) return Value(input.as_int());
  if (precision < 0) {
    const double scale = std::pow(10.0, static_cast<double>(-precision));
    const double rounded = std::nearbyint(value / scale) * scale;
    if (!input.is_integral()) return Value(rounded);
    MNEME_CHECK(std::fabs(rounded) < 9.2e18, "round: ", rounded, " does not fit 64 bits");
    return Value(static_cast<int64_t>(rounded));
  }
  if (!std::isfinite(value)) return input;
  // printf rounds the exact binary value half to even, as Python's round() does.
  char buffer[1024];
  std::snprintf(buffer, sizeof buffer, "%.*f", static_cast<int>(precision), value);
  return Value(std::strtod(buffer, nullptr));
}

}  // namespace

const std::vector<NamedFilter>& number_filters() {
  static const std::vector<NamedFilter> table = {
      {"abs", abs_filter}, {"float", float_filter}, {"int", int_filter}, {"round", round_filter}};
  return table;
}

}  // namespace mneme::jinja
