#include "mneme/eval/html_text.h"

#include <array>
#include <cmath>
#include <cstdio>

#include "mneme/io/utf8.h"

namespace mneme {
namespace {

std::string printed(const char* format, int digits, double value) {
  std::array<char, 400> text;
  std::snprintf(text.data(), text.size(), format, digits, value);
  return text.data();
}

}  // namespace

std::string html_escape(std::string_view text) {
  const std::string valid = repair_utf8(text);
  std::string safe;
  safe.reserve(valid.size());
  for (const char letter : valid) {
    switch (letter) {
      case '&':
        safe += "&amp;";
        break;
      case '<':
        safe += "&lt;";
        break;
      case '>':
        safe += "&gt;";
        break;
      case '"':
        safe += "&quot;";
        break;
      case '\'':
        safe += "&#39;";
        break;
      default: {
        const auto byte = static_cast<unsigned char>(letter);
        const bool control = (byte < 0x20 && letter != '\n' && letter != '\t') || byte == 0x7f;
        safe += control ? "\xEF\xBF\xBD" : std::string(1, letter);
      }
    }
  }
  return safe;
}

std::string fixed_number(double value, int digits) {
  std::string text = printed("%.*f", digits, value);
  if (text.find_first_not_of("-0.") == std::string::npos && text.front() == '-') text.erase(0, 1);
  return text;
}

std::string short_number(double value) {
  const double size = std::abs(value);
  if (!std::isfinite(value)) return value > 0 ? "inf" : (value < 0 ? "-inf" : "not a number");
  if (size == 0) return "0";
  if (size >= 1e15 || size < 1e-4) return printed("%.*e", 1, value);
  if (size >= 999.5) return grouped_number(std::llround(value));
  if (size >= 99.95) return fixed_number(value, 0);
  if (size >= 9.995) return fixed_number(value, 1);
  if (size >= 0.9995) return fixed_number(value, 2);
  return printed("%.*g", 3, value);
}

std::string grouped_number(int64_t value) {
  std::string text = std::to_string(value);
  const int64_t first = value < 0 ? 1 : 0;
  for (auto at = static_cast<int64_t>(text.size()) - 3; at > first; at -= 3)
    text.insert(static_cast<size_t>(at), ",");
  return text;
}

}  // namespace mneme
