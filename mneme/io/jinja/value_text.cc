// str() and repr() of values, as Python spells them.
#include <charconv>
#include <cmath>

#include "mneme/core/error.h"
#include "mneme/io/jinja/unicode.h"
#include "mneme/io/jinja/value.h"

namespace mneme::jinja {
namespace {

std::string hexadecimal(int32_t value, int digits) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text(static_cast<size_t>(digits), '0');
  for (int i = digits; i-- > 0; value >>= 4) text[static_cast<size_t>(i)] = kDigits[value & 15];
  return text;
}

void append_text_repr(const Text& text, Text* out) {
  const std::string& bytes = text.bytes();
  const bool double_quoted =
      bytes.find('\'') != std::string::npos && bytes.find('"') == std::string::npos;
  const char quote = double_quoted ? '"' : '\'';
  out->append(std::string(1, quote));
  for (size_t i = 0; i < bytes.size();) {
    const Character c = character_at(bytes, i);
    const auto length = static_cast<size_t>(c.bytes);
    std::string escaped;
    if (c.code == quote || c.code == '\\') {
      escaped = {'\\', static_cast<char>(c.code)};
    } else if (c.code == '\n') {
      escaped = "\\n";
    } else if (c.code == '\r') {
      escaped = "\\r";
    } else if (c.code == '\t') {
      escaped = "\\t";
    } else if (c.code < 0) {
      escaped = "\\x" + hexadecimal(static_cast<unsigned char>(bytes[i]), 2);
    } else if (!is_printable(c.code)) {
      escaped = c.code < 0x100     ? "\\x" + hexadecimal(c.code, 2)
                : c.code < 0x10000 ? "\\u" + hexadecimal(c.code, 4)
                                   : "\\U" + hexadecimal(c.code, 8);
    }
    if (escaped.empty()) {
      out->append(text, i, length);
    } else {
      out->append(escaped, text.source_at(i));
    }
    i += length;
  }
  out->append(std::string(1, quote));
}

void append_items(const Values& items, std::string_view open, std::string_view close, Text* out) {
  out->append(open);
  for (size_t i = 0; i < items.size(); ++i) {
    if (i) out->append(", ");
    append_repr(items[i], out);
  }
  out->append(close);
}

void append_sequence_repr(const Sequence& sequence, Text* out) {
  switch (sequence.flavour) {
    case Sequence::Flavour::kList:
      return append_items(sequence.items, "[", "]", out);
    case Sequence::Flavour::kTuple:
      return append_items(sequence.items, "(", sequence.items.size() == 1 ? ",)" : ")", out);
    case Sequence::Flavour::kKeys:
      return append_items(sequence.items, "dict_keys([", "])", out);
    case Sequence::Flavour::kValues:
      return append_items(sequence.items, "dict_values([", "])", out);
    case Sequence::Flavour::kItems:
      return append_items(sequence.items, "dict_items([", "])", out);
    case Sequence::Flavour::kGenerator:
      return out->append("<generator object>");
    case Sequence::Flavour::kRange: {
      std::string text = concat("range(", sequence.range_start, ", ", sequence.range_stop);
      if (sequence.range_step != 1) text += concat(", ", sequence.range_step);
      return out->append(text + ")");
    }
  }
}

}  // namespace

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[64];
  // Python switches to an exponent below 1e-4 and from 1e16 on.
  const double magnitude = std::fabs(value);
  if (magnitude != 0 && (magnitude < 1e-4 || magnitude >= 1e16)) {
    const auto end =
        std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
    return std::string(buffer, end.ptr);
  }
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed);
  std::string text(buffer, end.ptr);
  if (text.find('.') == std::string::npos) text += ".0";
  return text;
}

void append_repr(const Value& value, Text* out) {
  switch (value.kind()) {
    case Value::Kind::kUndefined:
      return out->append("Undefined");
    case Value::Kind::kText:
      if (!value.as_text().markup()) return append_text_repr(value.as_text(), out);
      out->append("Markup(");
      append_text_repr(value.as_text(), out);
      return out->append(")");
    case Value::Kind::kSequence:
      return append_sequence_repr(value.as_sequence(), out);
    case Value::Kind::kDict: {
      out->append("{");
      bool first = true;
      for (const auto& [key, item] : value.as_dict().entries()) {
        if (!first) out->append(", ");
        first = false;
        append_repr(key, out);
        out->append(": ");
        append_repr(item, out);
      }
      return out->append("}");
    }
    default:
      return out->append(to_text(value));
  }
}

Text to_text(const Value& value) {
  switch (value.kind()) {
    case Value::Kind::kNone:
      return Text("None");
    case Value::Kind::kUndefined:
      return Text();
    case Value::Kind::kBool:
      return Text(value.as_bool() ? "True" : "False");
    case Value::Kind::kInt:
      return Text(std::to_string(value.as_int()));
    case Value::Kind::kFloat:
      return Text(float_text(value.as_double()));
    case Value::Kind::kText:
      return value.as_text();
    case Value::Kind::kNamespace:
      return Text("<Namespace>");
    case Value::Kind::kFunction:
      return Text("<function " + value.as_function()->name + ">");
    case Value::Kind::kLoop:
      return Text(concat("<LoopContext ", value.as_loop()->index + 1, "/",
                         value.as_loop()->items->size(), ">"));
    case Value::Kind::kSequence:
    case Value::Kind::kDict:
      break;
  }
  Text text;
  append_repr(value, &text);
  return text;
}

}  // namespace mneme::jinja
