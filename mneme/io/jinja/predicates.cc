// The tests behind `is`.
#include <map>

#include "mneme/core/error.h"
#include "mneme/io/jinja/builtins.h"
#include "mneme/io/jinja/operators.h"
#include "mneme/io/jinja/unicode.h"

namespace mneme::jinja {
namespace {

using Kind = Value::Kind;

template <bool (*accept)(const Value&)>
bool plain(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("the test", arguments, {});
  return accept(input);
}

template <Operator op>
bool comparison(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("the test", arguments, {"other"}, 1);
  return holds(op, input, bound.at(0));
}

bool is_defined(const Value& v) { return !v.is_undefined(); }
bool is_undefined(const Value& v) { return v.is_undefined(); }
bool is_none(const Value& v) { return v.is_none(); }
bool is_boolean(const Value& v) { return v.kind() == Kind::kBool; }
bool is_true(const Value& v) { return is_boolean(v) && v.as_bool(); }
bool is_false(const Value& v) { return is_boolean(v) && !v.as_bool(); }
bool is_integer(const Value& v) { return v.kind() == Kind::kInt; }
bool is_float(const Value& v) { return v.kind() == Kind::kFloat; }
bool is_number(const Value& v) { return v.is_number(); }
bool is_string(const Value& v) { return v.is_text(); }
bool is_mapping(const Value& v) { return v.is_dict(); }
bool is_callable(const Value& v) { return v.kind() == Kind::kFunction; }
bool is_escaped(const Value& v) { return v.is_text() && v.as_text().markup(); }
bool is_iterable(const Value& v) {
  return v.is_undefined() || v.is_text() || v.is_sequence() || v.is_dict() ||
         v.kind() == Kind::kLoop;
}
bool is_sequence(const Value& v) {
  if (v.is_sequence()) return v.as_sequence().indexable();
  return v.is_undefined() || v.is_text() || v.is_dict();
}

// Whether there is a cased character and all cased ones satisfy `accept`.
template <bool (*accept)(int32_t)>
bool is_all(const Value& v) {
  const Text text = to_text(v);
  bool any = false;
  for (size_t i = 0; i < text.bytes().size();) {
    const Character c = character_at(text.bytes(), i);
    if (is_cased(c.code)) {
      if (!accept(c.code)) return false;
      any = true;
    }
    i += static_cast<size_t>(c.bytes);
  }
  return any;
}

bool remainder_is(const Value& input, const Value& divisor, int64_t wanted) {
  return equal(arithmetic(Operator::kModulo, input, divisor), Value(wanted));
}
bool is_odd(const Value& v) { return remainder_is(v, Value(int64_t{2}), 1); }
bool is_even(const Value& v) { return remainder_is(v, Value(int64_t{2}), 0); }

bool divisible(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("divisibleby", arguments, {"num"}, 1);
  return remainder_is(input, bound.at(0), 0);
}
bool same(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("sameas", arguments, {"other"}, 1);
  return input.same_as(bound.at(0));
}
bool names_filter(const Value& v) { return v.is_text() && find_filter(v.as_text().bytes()); }
bool names_test(const Value& v) { return v.is_text() && find_test(v.as_text().bytes()); }

const std::map<std::string_view, Test>& table() {
  static const std::map<std::string_view, Test> tests = {
      {"defined", plain<is_defined>},
      {"undefined", plain<is_undefined>},
      {"none", plain<is_none>},
      {"boolean", plain<is_boolean>},
      {"true", plain<is_true>},
      {"false", plain<is_false>},
      {"integer", plain<is_integer>},
      {"float", plain<is_float>},
      {"number", plain<is_number>},
      {"string", plain<is_string>},
      {"mapping", plain<is_mapping>},
      {"callable", plain<is_callable>},
      {"escaped", plain<is_escaped>},
      {"iterable", plain<is_iterable>},
      {"sequence", plain<is_sequence>},
      {"lower", plain<is_all<is_lower>>},
      {"upper", plain<is_all<is_upper>>},
      {"odd", plain<is_odd>},
      {"even", plain<is_even>},
      {"filter", plain<names_filter>},
      {"test", plain<names_test>},
      {"divisibleby", divisible},
      {"sameas", same},
      {"in", comparison<Operator::kIn>},
      {"eq", comparison<Operator::kEqual>},
      {"==", comparison<Operator::kEqual>},
      {"equalto", comparison<Operator::kEqual>},
      {"ne", comparison<Operator::kNotEqual>},
      {"!=", comparison<Operator::kNotEqual>},
      {"lt", comparison<Operator::kLess>},
      {"<", comparison<Operator::kLess>},
      {"lessthan", comparison<Operator::kLess>},
      {"le", comparison<Operator::kLessEqual>},
      {"<=", comparison<Operator::kLessEqual>},
      {"gt", comparison<Operator::kGreater>},
      {">", comparison<Operator::kGreater>},
      {"greaterthan", comparison<Operator::kGreater>},
      {"ge", comparison<Operator::kGreaterEqual>},
      {">=", comparison<Operator::kGreaterEqual>},
  };
  return tests;
}

}  // namespace

Test find_test(std::string_view name) {
  const auto found = table().find(name);
  return found == table().end() ? nullptr : found->second;
}

}  // namespace mneme::jinja
