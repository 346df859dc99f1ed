// Expressions of the interpreter.
#include <algorithm>

#include "mneme/core/error.h"
#include "mneme/io/jinja/builtins.h"
#include "mneme/io/jinja/interpreter.h"
#include "mneme/io/jinja/nesting.h"
#include "mneme/io/jinja/operators.h"

namespace mneme::jinja {

using Kind = Expression::Kind;

Value Interpreter::evaluate(const Expression& expression) {
  const Nesting deeper(&depth_);
  charge(1);
  line_ = expression.line;
  return evaluate_node(expression);
}

Value Interpreter::evaluate_optional(const ExpressionPtr& expression) {
  return expression ? evaluate(*expression) : Value();
}

Value Interpreter::evaluate_node(const Expression& expression) {
  const auto& items = expression.items;
  switch (expression.kind) {
    case Kind::kLiteral:
      return expression.literal;
    case Kind::kName:
      return evaluate_name(expression);
    case Kind::kList:
    case Kind::kTuple: {
      Values values;
      for (const ExpressionPtr& item : items) values.push_back(evaluate(*item));
      Value result = expression.kind == Kind::kList ? Value::list(std::move(values))
                                                    : Value::tuple(std::move(values));
      charge_for(result);
      return result;
    }
    case Kind::kDict:
      return evaluate_dict(expression);
    case Kind::kAttribute:
      return get_attribute(evaluate(*items[0]), expression.name);
    case Kind::kSubscript: {
      const Value object = evaluate(*items[0]);
      return get_item(object, evaluate(*items[1]));
    }
    case Kind::kSlice: {
      const Value object = evaluate(*items[0]);
      const Value start = evaluate_optional(items[1]);
      const Value stop = evaluate_optional(items[2]);
      const Value step = evaluate_optional(items[3]);
      charge_for(object);
      return slice(object, start, stop, step);
    }
    case Kind::kCall: {
      const Value callee = evaluate(*items[0]);
      Arguments arguments = evaluate_arguments(expression.arguments);
      line_ = expression.line;
      return call(callee, arguments);
    }
    case Kind::kFilter:
      return evaluate_filter(expression);
    case Kind::kTest: {
      const Value input = evaluate(*items[0]);
      Arguments arguments = evaluate_arguments(expression.arguments);
      return Value(apply_test(expression.name, input, arguments));
    }
    case Kind::kNot:
      return Value(!truthy(evaluate(*items[0])));
    case Kind::kAnd:
    case Kind::kOr: {
      Value value;
      for (const ExpressionPtr& item : items) {
        value = evaluate(*item);
        if (truthy(value) == (expression.kind == Kind::kOr)) break;
      }
      return value;
    }
    case Kind::kConditional:
      if (truthy(evaluate(*items[1]))) return evaluate(*items[0]);
      if (items[2]) return evaluate(*items[2]);
      return Value::undefined("the inline if-expression evaluated to false and has no else");
    case Kind::kConcat: {
      Text text;
      for (const ExpressionPtr& item : items) text.append(to_text(evaluate(*item)));
      charge(text.size() / 16);
      return Value(std::move(text));
    }
    case Kind::kArithmetic: {
      const Value left = evaluate(*items[0]);
      const Value right = evaluate(*items[1]);
      line_ = expression.line;
      Value result = arithmetic(expression.op, left, right);
      charge_for(result);
      return result;
    }
    case Kind::kNegate:
      return negate(evaluate(*items[0]));
    case Kind::kPlus: {
      Value value = evaluate(*items[0]);
      if (value.is_undefined()) fail(value.undefined_message());
      MNEME_CHECK(value.is_number(), "bad operand type for unary +: '", type_name(value), "'");
      return value.is_integral() ? Value(value.as_int()) : value;
    }
    case Kind::kCompare:
      return Value(evaluate_compare(expression));
  }
  return Value();
}

Value Interpreter::evaluate_name(const Expression& expression) {
  if (const Value* value = find(expression.name)) return *value;
  return Value::undefined("'" + expression.name + "' is undefined");
}

Value Interpreter::evaluate_dict(const Expression& expression) {
  auto dict = std::make_shared<Dict>();
  for (size_t i = 0; i + 1 < expression.items.size(); i += 2) {
    const Value key = evaluate(*expression.items[i]);
    dict->set(key, evaluate(*expression.items[i + 1]));
  }
  Value result{std::shared_ptr<const Dict>(std::move(dict))};
  charge_for(result);
  return result;
}

Value Interpreter::evaluate_filter(const Expression& expression) {
  const Value input =
      expression.items.empty() ? Value(*block_text_) : evaluate(*expression.items[0]);
  Arguments arguments = evaluate_arguments(expression.arguments);
  line_ = expression.line;
  return apply_filter(expression.name, input, arguments);
}

bool Interpreter::evaluate_compare(const Expression& expression) {
  Value left = evaluate(*expression.items[0]);
  for (size_t i = 0; i < expression.operators.size(); ++i) {
    Value right = evaluate(*expression.items[i + 1]);
    charge(std::min(left.weight(), right.weight()) / 4 + right.weight() / 16);
    if (!holds(expression.operators[i], left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Arguments Interpreter::evaluate_arguments(const CallArguments& arguments) {
  Arguments result;
  for (const ExpressionPtr& item : arguments.positional)
    result.positional.push_back(evaluate(*item));
  for (const auto& [name, item] : arguments.named) result.named.emplace_back(name, evaluate(*item));
  if (arguments.star) {
    const auto items = iterate(evaluate(*arguments.star));
    charge(static_cast<int64_t>(items->size()));
    result.positional.insert(result.positional.end(), items->begin(), items->end());
  }
  if (arguments.double_star) {
    const Value named = evaluate(*arguments.double_star);
    MNEME_CHECK(named.is_dict(), "an argument after ** must be a mapping, got '", type_name(named),
                "'");
    charge_for(named);
    for (const auto& [key, value] : named.as_dict().entries()) {
      MNEME_CHECK(key.is_text(), "the keys of a mapping after ** must be texts");
      for (const auto& other : result.named)
        MNEME_CHECK(other.first != key.as_text().bytes(), "the argument '", other.first,
                    "' is given twice");
      result.named.emplace_back(key.as_text().bytes(), value);
    }
  }
  return result;
}

Value Interpreter::call(const Value& callee, Arguments& arguments) {
  if (callee.is_undefined()) fail(callee.undefined_message());
  MNEME_CHECK(callee.kind() == Value::Kind::kFunction, "'", type_name(callee),
              "' object is not callable");
  Value result = callee.as_function()->call(*this, arguments);
  charge_for(result);
  return result;
}

Value Interpreter::apply_filter(const std::string& name, const Value& input, Arguments& arguments) {
  const Filter filter = find_filter(name);
  MNEME_CHECK(filter, "there is no filter '", name, "'");
  charge_for(input);
  Value result = filter(*this, input, arguments);
  charge_for(result);
  return result;
}

bool Interpreter::apply_test(const std::string& name, const Value& input, Arguments& arguments) {
  const Test test = find_test(name);
  MNEME_CHECK(test, "there is no test '", name, "'");
  charge(1);
  for (const Value& argument : arguments.positional) charge_for(argument);
  return test(*this, input, arguments);
}

}  // namespace mneme::jinja
