#include "mneme/io/jinja/format.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "mneme/core/error.h"
#include "mneme/io/jinja/builtins.h"
#include "mneme/io/jinja/limits.h"
#include "mneme/io/jinja/unicode.h"

namespace mneme::jinja {
namespace {

struct Spec {
  Text fill = Text(" ");
  char alignment = 0;
  char sign = '-';
  bool alternate = false, grouped = false;
  int64_t width = 0;
  int64_t precision = -1;
  char type = 0;
};

bool digit(char c) { return c >= '0' && c <= '9'; }

int64_t read_number(const std::string& text, size_t* position) {
  int64_t number = 0;
  while (*position < text.size() && digit(text[*position])) {
    number = number * 10 + (text[(*position)++] - '0');
    MNEME_CHECK(number <= kMaxTextBytes, "a format width of ", number, " is too large");
  }
  return number;
}

std::string in_base(int64_t value, unsigned base, bool upper_case) {
  const char* digits = upper_case ? "0123456789ABCDEF" : "0123456789abcdef";
  uint64_t magnitude = value < 0 ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  std::string text;
  do {
    text.insert(text.begin(), digits[magnitude % base]);
    magnitude /= base;
  } while (magnitude);
  return text;
}

// The digits of |value| in the spec's type, without a sign.
std::string magnitude_text(const Value& value, const Spec& spec) {
  const char low = static_cast<char>(spec.type | 0x20);
  if (low == 'x' || low == 'o' || low == 'b' || low == 'd' ||
      (spec.type == 0 && value.is_integral())) {
    MNEME_CHECK(value.is_integral(), "the format '", spec.type, "' needs an integer, got '",
                type_name(value), "'");
    const unsigned base = low == 'x' ? 16 : low == 'o' ? 8 : low == 'b' ? 2 : 10;
    std::string text = in_base(value.as_int(), base, spec.type == 'X');
    if (spec.alternate && base != 10) text.insert(0, {'0', spec.type});
    return text;
  }
  MNEME_CHECK(value.is_number(), "the format '", spec.type, "' needs a number, got '",
              type_name(value), "'");
  double number = std::abs(value.as_double());
  if (spec.type == 0 && spec.precision < 0) return float_text(number);
  if (spec.type == '%') number *= 100;
  const int64_t precision = spec.precision < 0 ? 6 : spec.precision;
  MNEME_CHECK(precision <= 400, "a precision of ", precision, " is too large");
  const char type = spec.type == '%' ? 'f' : spec.type == 0 ? 'g' : spec.type;
  MNEME_CHECK(low == 'f' || low == 'e' || low == 'g' || spec.type == 0 || spec.type == '%',
              "there is no format '", spec.type, "'");
  const char pattern[] = {'%', '.', '*', type, 0};
  char buffer[1024];
  std::snprintf(buffer, sizeof buffer, pattern, static_cast<int>(precision), number);
  return std::string(buffer) + (spec.type == '%' ? "%" : "");
}

void group_thousands(std::string* digits) {
  size_t end = digits->find_first_not_of("0123456789");
  if (end == std::string::npos) end = digits->size();
  for (size_t i = end; i > 3; i -= 3) digits->insert(i - 3, ",");
}

Text format_number(const Value& value, const Spec& spec) {
  std::string digits = magnitude_text(value, spec);
  if (spec.grouped) group_thousands(&digits);
  const bool negative = std::signbit(value.as_double());
  const std::string sign = negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
  if (spec.alignment == '=') {
    const auto used = static_cast<int64_t>(sign.size());
    Text result(sign);
    result.append(pad(Text(digits), spec.width - used, '>', spec.fill));
    return result;
  }
  return pad(Text(sign + digits), spec.width, spec.alignment ? spec.alignment : '>', spec.fill);
}

Text format_text(const Text& text, const Spec& spec) {
  Text result = text;
  if (spec.precision >= 0 && spec.precision < count_characters(text.bytes()))
    result = slice_characters(text, 0, spec.precision, 1);
  return pad(result, spec.width, spec.alignment ? spec.alignment : '<', spec.fill);
}

Spec parse_spec(const std::string& text) {
  Spec spec;
  size_t i = 0;
  const auto aligns = [&](size_t at) {
    return at < text.size() && std::string_view("<>^=").find(text[at]) != std::string_view::npos;
  };
  const auto first = text.empty() ? 0 : static_cast<size_t>(character_at(text, 0).bytes);
  if (first && aligns(first)) {
    spec.fill = Text(text.substr(0, first));
    spec.alignment = text[first];
    i = first + 1;
  } else if (aligns(0)) {
    spec.alignment = text[i++];
  }
  if (i < text.size() && (text[i] == '+' || text[i] == '-' || text[i] == ' '))
    spec.sign = text[i++];
  if (i < text.size() && text[i] == '#') spec.alternate = ++i > 0;
  if (i < text.size() && text[i] == '0' && !spec.alignment) {
    spec.fill = Text("0");
    spec.alignment = '=';
    ++i;
  }
  spec.width = read_number(text, &i);
  if (i < text.size() && text[i] == ',') spec.grouped = ++i > 0;
  if (i < text.size() && text[i] == '.') {
    ++i;
    spec.precision = read_number(text, &i);
  }
  if (i < text.size()) spec.type = text[i++];
  MNEME_CHECK(i == text.size(), "the format '", text, "' is not understood");
  return spec;
}

Text format_with_spec(const Value& value, const std::string& text) {
  if (text.empty()) return to_text(value);
  Spec spec = parse_spec(text);
  if (value.is_number() && spec.type != 's') {
    if (value.kind() == Value::Kind::kBool && spec.type == 0)
      return format_text(to_text(value), spec);
    return format_number(value, spec);
  }
  MNEME_CHECK(value.is_text() && (spec.type == 0 || spec.type == 's') && spec.alignment != '=',
              "the format '", text, "' does not fit a value of type '", type_name(value), "'");
  spec.type = 's';
  return format_text(value.as_text(), spec);
}

Text convert(const Value& value, char conversion) {
  if (conversion == 's') return to_text(value);
  Text text;
  append_repr(value, &text);
  return text;
}

// Hands out the values of a % right side one by one.
class PercentValues {
 public:
  explicit PercentValues(const Value& value) : value_(value) {}

  Value next() {
    if (!is_tuple()) {
      MNEME_CHECK(used_++ == 0, "not enough arguments for the format text");
      return value_;
    }
    const Values& items = value_.as_sequence().items;
    MNEME_CHECK(used_ < items.size(), "not enough arguments for the format text");
    return items[used_++];
  }
  Value named(const std::string& key) {
    used_ = SIZE_MAX;
    MNEME_CHECK(value_.is_dict(), "the format needs a mapping, got '", type_name(value_), "'");
    const Value* found = value_.as_dict().find(std::string_view(key));
    MNEME_CHECK(found, "the format names '", key, "', which is not given");
    return *found;
  }
  void check_all_used() const {
    const bool mapping = value_.is_dict() || (value_.is_sequence() && !is_tuple());
    const size_t expected = is_tuple() ? value_.as_sequence().items.size() : mapping ? 0 : 1;
    MNEME_CHECK(used_ >= expected, "not all arguments were used by the format text");
  }

 private:
  bool is_tuple() const {
    return value_.is_sequence() && value_.as_sequence().flavour == Sequence::Flavour::kTuple;
  }
  const Value& value_;
  size_t used_ = 0;
};

Text format_conversion(const Value& value, Spec spec) {
  if (spec.type == 's' || spec.type == 'r' || spec.type == 'a') {
    const Text text = convert(value, spec.type);
    if (spec.alignment == '=') spec.fill = Text(" ");
    spec.alignment = spec.alignment == '<' ? '<' : '>';
    return format_text(text, spec);
  }
  if (spec.type == 'c') {
    std::string text;
    if (value.is_integral() && value.as_int() >= 0 && value.as_int() <= 0x10FFFF)
      append_utf8(static_cast<int32_t>(value.as_int()), &text);
    MNEME_CHECK(!text.empty() || value.is_text(), "%c needs a character");
    return text.empty() ? value.as_text() : Text(text);
  }
  MNEME_CHECK(value.is_number(), "%", spec.type, " needs a number, got '", type_name(value), "'");
  if (spec.type == 'i' || spec.type == 'u' || spec.type == 'd') {
    spec.type = 'd';
    const double number = value.as_double();
    if (!value.is_integral()) {
      MNEME_CHECK(number > -9e18 && number < 9e18, "%d of ", number, " does not fit 64 bits");
      return format_number(Value(static_cast<int64_t>(number)), spec);
    }
  }
  return format_number(value, spec);
}

}  // namespace

Text format_percent(const Text& pattern, const Value& value) {
  const std::string& bytes = pattern.bytes();
  PercentValues values(value);
  Text result;
  for (size_t i = 0; i < bytes.size();) {
    if (bytes[i] != '%') {
      result.append(pattern, i++, 1);
      continue;
    }
    const size_t begin = i++;
    std::optional<Value> named;
    if (i < bytes.size() && bytes[i] == '(') {
      const size_t end = bytes.find(')', i);
      MNEME_CHECK(end != std::string::npos, "a format key is not closed");
      named = values.named(bytes.substr(i + 1, end - i - 1));
      i = end + 1;
    }
    Spec spec;
    bool zero = false;
    for (; i < bytes.size() && std::string_view("#0- +").find(bytes[i]) != std::string_view::npos;
         ++i) {
      if (bytes[i] == '#') spec.alternate = true;
      if (bytes[i] == '0') zero = true;
      if (bytes[i] == '-') spec.alignment = '<';
      if (bytes[i] == '+' || (bytes[i] == ' ' && spec.sign != '+')) spec.sign = bytes[i];
    }
    if (zero && !spec.alignment) {
      spec.fill = Text("0");
      spec.alignment = '=';
    }
    spec.width = read_number(bytes, &i);
    if (i < bytes.size() && bytes[i] == '.') spec.precision = read_number(bytes, &++i);
    MNEME_CHECK(i < bytes.size(), "the format text ends inside a conversion");
    spec.type = bytes[i++];
    if (spec.type == '%') {
      result.append(pattern, begin, 1);
      continue;
    }
    MNEME_CHECK(std::string_view("srdiufFeEgGxXoc").find(spec.type) != std::string_view::npos,
                "the conversion '%", spec.type, "' is not supported");
    result.append(format_conversion(named ? *named : values.next(), spec));
  }
  values.check_all_used();
  return result;
}

Text format_braces(const Text& pattern, const Arguments& arguments) {
  const std::string& bytes = pattern.bytes();
  Text result;
  size_t next = 0;
  for (size_t i = 0; i < bytes.size();) {
    const bool doubled = i + 1 < bytes.size() && bytes[i + 1] == bytes[i];
    if ((bytes[i] != '{' && bytes[i] != '}') || doubled) {
      result.append(pattern, i, 1);
      i += bytes[i] == '{' || bytes[i] == '}' ? 2 : 1;
      continue;
    }
    const size_t end = bytes.find('}', i);
    MNEME_CHECK(bytes[i] == '{' && end != std::string::npos, "a single '", bytes[i],
                "' in a format text");
    std::string field = bytes.substr(i + 1, end - i - 1);
    i = end + 1;
    std::string spec;
    char conversion = 0;
    if (const size_t colon = field.find(':'); colon != std::string::npos) {
      spec = field.substr(colon + 1);
      field.resize(colon);
    }
    if (const size_t mark = field.find('!'); mark != std::string::npos) {
      MNEME_CHECK(mark + 2 == field.size() && (field[mark + 1] == 's' || field[mark + 1] == 'r'),
                  "the conversion of '", field, "' is not supported");
      conversion = field[mark + 1];
      field.resize(mark);
    }
    const size_t stem = std::min(field.find_first_of(".["), field.size());
    const std::string name = field.substr(0, stem);
    Value value;
    if (name.empty() || digit(name[0])) {
      size_t index = next++;
      if (!name.empty()) index = static_cast<size_t>(std::strtoull(name.c_str(), nullptr, 10));
      MNEME_CHECK(index < arguments.positional.size(), "the format text needs argument ", index);
      value = arguments.positional[index];
    } else {
      const Value* found = nullptr;
      for (const auto& [key, argument] : arguments.named)
        if (key == name) found = &argument;
      MNEME_CHECK(found, "the format text names '", name, "', which is not given");
      value = *found;
    }
    for (size_t at = stem; at < field.size();) {
      const bool item = field[at] == '[';
      const size_t stop =
          item ? field.find(']', at) : std::min(field.find_first_of(".[", at + 1), field.size());
      MNEME_CHECK(stop != std::string::npos, "a '[' in a format field is not closed");
      const std::string key = field.substr(at + 1, stop - at - 1);
      if (!item) {
        value = get_attribute(value, key);
      } else {
        value = get_item(value,
                         !key.empty() && digit(key[0])
                             ? Value(static_cast<int64_t>(std::strtoll(key.c_str(), nullptr, 10)))
                             : Value::text(key));
      }
      at = stop + (item ? 1 : 0);
    }
    if (conversion) value = Value(convert(value, conversion));
    result.append(format_with_spec(value, spec));
  }
  return result;
}

}  // namespace mneme::jinja
