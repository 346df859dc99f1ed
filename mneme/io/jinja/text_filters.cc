// Filters that take and give text.
#include "mneme/core/error.h"
#include "mneme/io/jinja/builtins.h"
#include "mneme/io/jinja/format.h"
#include "mneme/io/jinja/interpreter.h"
#include "mneme/io/jinja/json.h"
#include "mneme/io/jinja/unicode.h"

namespace mneme::jinja {
namespace {

template <Text (*convert)(const Text&)>
Value convert_filter(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("the filter", arguments, {});
  return Value(convert(to_text(input)));
}

// The `title` filter raises a word's first character after blanks and - ( { [ <, unlike
// str.title().
Text title_words(const Text& text) {
  Text result, word;
  const auto flush = [&] {
    if (word.empty()) return;
    const auto first = static_cast<size_t>(character_at(word.bytes(), 0).bytes);
    result.append(upper(word.slice(0, first)));
    result.append(lower(word.slice(first, word.bytes().size() - first)));
    word = Text();
  };
  for (size_t i = 0; i < text.bytes().size();) {
    const Character c = character_at(text.bytes(), i);
    const auto length = static_cast<size_t>(c.bytes);
    const bool separates = is_space(c.code) || c.code == '-' || c.code == '(' || c.code == '{' ||
                           c.code == '[' || c.code == '<';
    if (separates) {
      flush();
      result.append(text, i, length);
    } else {
      word.append(text, i, length);
    }
    i += length;
  }
  flush();
  return result;
}

Value trim_filter(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("trim", arguments, {"chars"});
  const bool given = bound.has(0) && !bound.at(0).is_none();
  return Value(strip(to_text(input), Side::kBoth, given ? &bound.text(0).bytes() : nullptr));
}

Value replace_filter(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("replace", arguments, {"old", "new", "count"}, 2);
  const int64_t count = bound.has(2) && bound.at(2).is_none() ? -1 : bound.integer(2, -1);
  return Value(replace(to_text(input), to_text(bound.at(0)).bytes(), to_text(bound.at(1)), count));
}

Value indent_filter(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("indent", arguments, {"width", "first", "blank"});
  if (input.is_undefined()) fail(input.undefined_message());
  MNEME_CHECK(input.is_text(), "indent needs a text, got '", type_name(input), "'");
  const bool by_text = bound.has(0) && bound.at(0).is_text();
  const Text indention = by_text ? bound.text(0) : repeat(Text(" "), bound.integer(0, 4));
  Text text = input.as_text();
  text.append("\n");  // so that an empty last line counts
  const std::vector<Text> lines = split_lines(text, false);
  Text result;
  if (bound.boolean(1, false)) result.append(indention);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i) result.append("\n");
    if (i && (bound.boolean(2, false) || !lines[i].empty())) result.append(indention);
    result.append(lines[i]);
  }
  return Value(std::move(result));
}

Value truncate_filter(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("truncate", arguments, {"length", "killwords", "end", "leeway"});
  MNEME_CHECK(input.is_text(), "truncate needs a text, got '", type_name(input), "'");
  const Text& text = input.as_text();
  const Text end = bound.has(2) ? bound.text(2) : Text("...");
  const int64_t length = bound.integer(0, 255);
  const int64_t leeway = bound.has(3) && bound.at(3).is_none() ? 5 : bound.integer(3, 5);
  const int64_t kept = length - count_characters(end.bytes());
  MNEME_CHECK(kept >= 0 && leeway >= 0, "truncate: length ", length,
              " is shorter than its end text");
  const int64_t have = count_characters(text.bytes());
  if (have - leeway <= length) return input;
  Text result = slice_characters(text, 0, kept, 1);
  if (!bound.boolean(1, false)) result = split(result, " ", 1, true)[0];
  result.append(end);
  return Value(std::move(result));
}

Value center_filter(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  const Bound bound("center", arguments, {"width"});
  const std::optional<Value> center = text_method(Value(to_text(input)), "center");
  Arguments width{{Value(bound.integer(0, 80))}, {}};
  return interpreter.call(*center, width);
}

Value wordcount_filter(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("wordcount", arguments, {});
  const Text text = to_text(input);
  int64_t count = 0;
  bool inside = false;
  for (size_t i = 0; i < text.bytes().size();) {
    const Character c = character_at(text.bytes(), i);
    const bool word = is_alphabetic(c.code) || is_digit(c.code) || c.code == '_';
    count += word && !inside;
    inside = word;
    i += static_cast<size_t>(c.bytes);
  }
  return Value(count);
}

Value string_filter(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("string", arguments, {});
  return Value(to_text(input));
}

Value escape_filter(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("escape", arguments, {});
  if (input.is_text() && input.as_text().markup()) return input;
  return Value(escape_html(to_text(input)));
}
Value forceescape_filter(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("forceescape", arguments, {});
  return Value(escape_html(to_text(input)));
}
Value safe_filter(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("safe", arguments, {});
  Text text = to_text(input);
  text.set_markup(true);
  return Value(std::move(text));
}

Value urlencode_filter(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("urlencode", arguments, {});
  MNEME_CHECK(input.is_text() || input.is_number(), "urlencode needs a text, got '",
              type_name(input), "'");
  constexpr char kDigits[] = "0123456789ABCDEF";
  const Text text = to_text(input);
  Text result;
  for (size_t i = 0; i < text.bytes().size(); ++i) {
    const auto byte = static_cast<unsigned char>(text.bytes()[i]);
    const bool plain = (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') ||
                       (byte >= 'A' && byte <= 'Z') || byte == '_' || byte == '.' || byte == '-' ||
                       byte == '~' || byte == '/';
    if (plain) {
      result.append(text, i, 1);
    } else {
      result.append(std::string{'%', kDigits[byte >> 4], kDigits[byte & 15]}, text.source_at(i));
    }
  }
  return Value(std::move(result));
}

Value format_filter(Interpreter&, const Value& input, Arguments& arguments) {
  MNEME_CHECK(arguments.positional.empty() || arguments.named.empty(),
              "format takes positional or named values, not both");
  if (arguments.named.empty())
    return Value(format_percent(to_text(input), Value::tuple(std::move(arguments.positional))));
  auto named = std::make_shared<Dict>();
  for (auto& [name, value] : arguments.named) named->set(Value::text(name), std::move(value));
  return Value(
      format_percent(to_text(input), Value(std::shared_ptr<const Dict>(std::move(named)))));
}

Value tojson_filter(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ascii = bound.boolean(0, false);
  style.sort_keys = bound.boolean(3, false);
  if (bound.has(1) && !bound.at(1).is_none()) {
    const int64_t width = bound.at(1).is_text() ? 0 : bound.integer(1, 0);
    style.indent =
        bound.at(1).is_text() ? bound.text(1) : repeat(Text(" "), std::max<int64_t>(width, 0));
    style.item_separator = Text(",");
  }
  if (bound.has(2) && !bound.at(2).is_none()) {
    const auto separators = iterate(bound.at(2));
    MNEME_CHECK(separators->size() == 2 && (*separators)[0].is_text() && (*separators)[1].is_text(),
                "tojson: separators must be two texts");
    style.item_separator = (*separators)[0].as_text();
    style.key_separator = (*separators)[1].as_text();
  }
  return Value(to_json(input, style));
}

}  // namespace

const std::vector<NamedFilter>& text_filters() {
  static const std::vector<NamedFilter> table = {
      {"capitalize", convert_filter<capitalize>},
      {"center", center_filter},
      {"e", escape_filter},
      {"escape", escape_filter},
      {"forceescape", forceescape_filter},
      {"format", format_filter},
      {"indent", indent_filter},
      {"lower", convert_filter<lower>},
      {"replace", replace_filter},
      {"safe", safe_filter},
      {"string", string_filter},
      {"title", convert_filter<title_words>},
      {"tojson", tojson_filter},
      {"trim", trim_filter},
      {"truncate", truncate_filter},
      {"upper", convert_filter<upper>},
      {"urlencode", urlencode_filter},
      {"wordcount", wordcount_filter},
  };
  return table;
}

}  // namespace mneme::jinja
