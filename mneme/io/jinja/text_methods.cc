// The methods of str that a template can call.
#include <algorithm>
#include <map>

#include "mneme/core/error.h"
#include "mneme/io/jinja/builtins.h"
#include "mneme/io/jinja/format.h"
#include "mneme/io/jinja/interpreter.h"
#include "mneme/io/jinja/operators.h"
#include "mneme/io/jinja/unicode.h"

namespace mneme::jinja {
namespace {

using Method = Value (*)(const Text& self, Arguments& arguments);

Value list_of(std::vector<Text> texts) {
  Values values;
  for (Text& text : texts) values.emplace_back(std::move(text));
  return Value::list(std::move(values));
}

template <Side side>
Value strip_method(const Text& self, Arguments& arguments) {
  const Bound bound("strip", arguments, {"chars"});
  const bool given = bound.has(0) && !bound.at(0).is_none();
  return Value(strip(self, side, given ? &bound.text(0).bytes() : nullptr));
}

template <bool from_right>
Value split_method(const Text& self, Arguments& arguments) {
  const Bound bound("split", arguments, {"sep", "maxsplit"});
  const int64_t limit = bound.integer(1, -1);
  if (!bound.has(0) || bound.at(0).is_none()) return list_of(split_space(self, limit, from_right));
  MNEME_CHECK(!bound.text(0).empty(), "split: the separator is empty");
  return list_of(split(self, bound.text(0).bytes(), limit, from_right));
}

template <bool at_end>
Value affix_method(const Text& self, Arguments& arguments) {
  const Bound bound(at_end ? "endswith" : "startswith", arguments, {"affix", "start", "end"}, 1);
  const Value start = bound.has(1) ? bound.at(1) : Value(),
              end = bound.has(2) ? bound.at(2) : Value();
  const std::string text = slice(Value(self), start, end, Value()).as_text().bytes();
  const auto matches = [&](const Value& affix) {
    MNEME_CHECK(affix.is_text(), at_end ? "endswith" : "startswith",
                " needs a text or a tuple of texts, got '", type_name(affix), "'");
    const std::string& bytes = affix.as_text().bytes();
    if (bytes.size() > text.size()) return false;
    return text.compare(at_end ? text.size() - bytes.size() : 0, bytes.size(), bytes) == 0;
  };
  if (!bound.at(0).is_sequence()) return Value(matches(bound.at(0)));
  const Values& affixes = bound.at(0).as_sequence().items;
  return Value(std::any_of(affixes.begin(), affixes.end(), matches));
}

template <bool at_end>
Value remove_affix_method(const Text& self, Arguments& arguments) {
  const Bound bound(at_end ? "removesuffix" : "removeprefix", arguments, {"affix"}, 1);
  const std::string& affix = bound.text(0).bytes();
  const std::string& bytes = self.bytes();
  if (affix.size() > bytes.size()) return Value(self);
  const size_t rest = bytes.size() - affix.size();
  if (bytes.compare(at_end ? rest : 0, affix.size(), affix) != 0) return Value(self);
  return Value(self.slice(at_end ? 0 : affix.size(), rest));
}

Value replace_method(const Text& self, Arguments& arguments) {
  const Bound bound("replace", arguments, {"old", "new", "count"}, 2);
  return Value(replace(self, bound.text(0).bytes(), bound.text(1), bound.integer(2, -1)));
}

// The character index of a text inside [start, end), or -1.
template <bool from_right>
int64_t find_index(const Text& self, Arguments& arguments) {
  const Bound bound("find", arguments, {"sub", "start", "end"}, 1);
  const Value start = bound.has(1) ? bound.at(1) : Value(),
              end = bound.has(2) ? bound.at(2) : Value();
  const int64_t length = count_characters(self.bytes());
  const SliceRange range = slice_range(length, start, end, Value());
  const Text window = slice_characters(self, range.start, range.count, 1);
  const std::string& sought = bound.text(0).bytes();
  const size_t found = from_right ? window.bytes().rfind(sought) : window.bytes().find(sought);
  if (found == std::string::npos) return -1;
  return range.start + count_characters(std::string_view(window.bytes()).substr(0, found));
}
template <bool from_right>
Value find_method(const Text& self, Arguments& arguments) {
  return Value(find_index<from_right>(self, arguments));
}
template <bool from_right>
Value index_method(const Text& self, Arguments& arguments) {
  const int64_t index = find_index<from_right>(self, arguments);
  MNEME_CHECK(index >= 0, "index: the text is not found");
  return Value(index);
}

Value count_method(const Text& self, Arguments& arguments) {
  const Bound bound("count", arguments, {"sub"}, 1);
  const std::string& sought = bound.text(0).bytes();
  if (sought.empty()) return Value(count_characters(self.bytes()) + 1);
  return Value(static_cast<int64_t>(split(self, sought, -1).size()) - 1);
}

Value join_method(const Text& self, Arguments& arguments) {
  const Bound bound("join", arguments, {"iterable"}, 1);
  std::vector<Text> parts;
  const auto iterated = iterate(bound.at(0));
  for (const Value& item : *iterated) {
    MNEME_CHECK(item.is_text(), "join: expected texts, got '", type_name(item), "'");
    parts.push_back(item.as_text());
  }
  return Value(join(parts, self));
}

Value splitlines_method(const Text& self, Arguments& arguments) {
  const Bound bound("splitlines", arguments, {"keepends"});
  return list_of(split_lines(self, bound.boolean(0, false)));
}

template <bool from_right>
Value partition_method(const Text& self, Arguments& arguments) {
  const Bound bound("partition", arguments, {"sep"}, 1);
  MNEME_CHECK(!bound.text(0).empty(), "partition: the separator is empty");
  const std::vector<Text> parts = split(self, bound.text(0).bytes(), 1, from_right);
  if (parts.size() == 2) return Value::tuple({Value(parts[0]), bound.at(0), Value(parts[1])});
  const Value empty = Value::text("");
  return from_right ? Value::tuple({empty, empty, Value(self)})
                    : Value::tuple({Value(self), empty, empty});
}

template <Text (*convert)(const Text&)>
Value convert_method(const Text& self, Arguments& arguments) {
  const Bound bound("the method", arguments, {});
  return Value(convert(self));
}

template <char alignment>
Value justify_method(const Text& self, Arguments& arguments) {
  const Bound bound("the method", arguments, {"width", "fillchar"}, 1);
  const Text fill = bound.has(1) ? bound.text(1) : Text(" ");
  MNEME_CHECK(count_characters(fill.bytes()) == 1, "the fill text must be one character");
  const int64_t width = bound.integer(0, 0);
  if (alignment != '^') return Value(pad(self, width, alignment, fill));
  const int64_t missing = width - count_characters(self.bytes());
  if (missing <= 0) return Value(self);
  const int64_t left = missing / 2 + (missing & width & 1);
  return Value(pad(pad(self, width - missing + left, '>', fill), width, '<', fill));
}

Value zfill_method(const Text& self, Arguments& arguments) {
  const Bound bound("zfill", arguments, {"width"}, 1);
  const bool sign = !self.empty() && (self.bytes()[0] == '+' || self.bytes()[0] == '-');
  Text result = self.slice(0, sign ? 1 : 0);
  result.append(pad(self.slice(sign ? 1 : 0, self.bytes().size()),
                    bound.integer(0, 0) - (sign ? 1 : 0), '>', Text("0")));
  return Value(std::move(result));
}

// True when there is a character and all satisfy `accept`.
template <bool (*accept)(int32_t)>
Value all_method(const Text& self, Arguments& arguments) {
  const Bound bound("the method", arguments, {});
  for (size_t i = 0; i < self.bytes().size();) {
    const Character c = character_at(self.bytes(), i);
    if (!accept(c.code)) return Value(false);
    i += static_cast<size_t>(c.bytes);
  }
  return Value(!self.empty());
}
bool is_alphanumeric(int32_t code) { return is_alphabetic(code) || is_digit(code); }

Value format_method(const Text& self, Arguments& arguments) {
  return Value(format_braces(self, arguments));
}

const std::map<std::string_view, Method>& methods() {
  static const std::map<std::string_view, Method> table = {
      {"strip", strip_method<Side::kBoth>},
      {"lstrip", strip_method<Side::kLeft>},
      {"rstrip", strip_method<Side::kRight>},
      {"split", split_method<false>},
      {"rsplit", split_method<true>},
      {"splitlines", splitlines_method},
      {"partition", partition_method<false>},
      {"rpartition", partition_method<true>},
      {"startswith", affix_method<false>},
      {"endswith", affix_method<true>},
      {"removeprefix", remove_affix_method<false>},
      {"removesuffix", remove_affix_method<true>},
      {"replace", replace_method},
      {"find", find_method<false>},
      {"rfind", find_method<true>},
      {"index", index_method<false>},
      {"rindex", index_method<true>},
      {"count", count_method},
      {"join", join_method},
      {"upper", convert_method<upper>},
      {"lower", convert_method<lower>},
      {"title", convert_method<title>},
      {"capitalize", convert_method<capitalize>},
      {"ljust", justify_method<'<'>},
      {"rjust", justify_method<'>'>},
      {"center", justify_method<'^'>},
      {"zfill", zfill_method},
      {"isdigit", all_method<is_digit>},
      {"isdecimal", all_method<is_digit>},
      {"isalpha", all_method<is_alphabetic>},
      {"isalnum", all_method<is_alphanumeric>},
      {"isspace", all_method<is_space>},
      {"format", format_method},
  };
  return table;
}

}  // namespace

std::optional<Value> text_method(const Value& object, std::string_view name) {
  auto function = std::make_shared<Function>();
  function->name = std::string(name);
  if (name == "isupper" || name == "islower") {
    function->call = [object, test = find_test(name.substr(2))](Interpreter& interpreter,
                                                                Arguments& arguments) {
      return Value(test(interpreter, object, arguments));
    };
  } else {
    const auto found = methods().find(name);
    if (found == methods().end()) return std::nullopt;
    function->call = [object, call = found->second](Interpreter& interpreter,
                                                    Arguments& arguments) {
      interpreter.charge_for(object);
      return call(object.as_text(), arguments);
    };
  }
  return Value(std::shared_ptr<const Function>(std::move(function)));
}

}  // namespace mneme::jinja
