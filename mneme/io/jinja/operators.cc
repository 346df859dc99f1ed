#include "mneme/io/jinja/operators.h"

#include <algorithm>
#include <cmath>

#include "mneme/core/error.h"
#include "mneme/io/jinja/format.h"
#include "mneme/io/jinja/limits.h"
#include "mneme/io/jinja/unicode.h"

namespace mneme::jinja {
namespace {

std::string_view symbol(Operator op) {
  constexpr std::string_view kSymbols[] = {
      "+", "-", "*", "/", "//", "%", "**", "==", "!=", "<", "<=", ">", ">=", "in", "not in"};
  return kSymbols[static_cast<size_t>(op)];
}

[[noreturn]] void unsupported(Operator op, const Value& a, const Value& b) {
  if (a.is_undefined()) fail(a.undefined_message());
  if (b.is_undefined()) fail(b.undefined_message());
  fail("unsupported operand types for ", symbol(op), ": '", type_name(a), "' and '", type_name(b),
       "'");
}

[[noreturn]] void overflow(Operator op, int64_t a, int64_t b) {
  fail("the integer ", a, " ", symbol(op), " ", b, " does not fit 64 bits");
}

Value integer_power(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    MNEME_CHECK(base != 0, "0 cannot be raised to a negative power");
    return Value(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  int64_t result = 1;
  int64_t square = base;
  for (int64_t left = exponent; left > 0; left >>= 1) {
    if ((left & 1) && __builtin_mul_overflow(result, square, &result))
      overflow(Operator::kPower, base, exponent);
    if (left > 1 && __builtin_mul_overflow(square, square, &square))
      overflow(Operator::kPower, base, exponent);
  }
  return Value(result);
}

Value integer_arithmetic(Operator op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool failed = false;
  const bool divides =
      op == Operator::kDivide || op == Operator::kFloorDivide || op == Operator::kModulo;
  MNEME_CHECK(!divides || b != 0, "division by zero in ", a, " ", symbol(op), " 0");
  switch (op) {
    case Operator::kAdd:
      failed = __builtin_add_overflow(a, b, &result);
      break;
    case Operator::kSubtract:
      failed = __builtin_sub_overflow(a, b, &result);
      break;
    case Operator::kMultiply:
      failed = __builtin_mul_overflow(a, b, &result);
      break;
    case Operator::kDivide:
      return Value(static_cast<double>(a) / static_cast<double>(b));
    case Operator::kPower:
      return integer_power(a, b);
    default: {
      if (b == -1) {  // INT64_MIN / -1 traps
        if (op == Operator::kModulo) return Value(int64_t{0});
        failed = __builtin_sub_overflow(int64_t{0}, a, &result);
        break;
      }
      const bool inexact = a % b != 0 && ((a < 0) != (b < 0));
      result = op == Operator::kModulo ? a % b + (inexact ? b : 0) : a / b - (inexact ? 1 : 0);
    }
  }
  if (failed) overflow(op, a, b);
  return Value(result);
}

Value real_arithmetic(Operator op, double a, double b) {
  const bool divides =
      op == Operator::kDivide || op == Operator::kFloorDivide || op == Operator::kModulo;
  MNEME_CHECK(!divides || b != 0, "division by zero in ", a, " ", symbol(op), " 0");
  switch (op) {
    case Operator::kAdd:
      return Value(a + b);
    case Operator::kSubtract:
      return Value(a - b);
    case Operator::kMultiply:
      return Value(a * b);
    case Operator::kDivide:
      return Value(a / b);
    case Operator::kPower:
      MNEME_CHECK(a != 0 || b >= 0, "0 cannot be raised to a negative power");
      MNEME_CHECK(a >= 0 || std::floor(b) == b, "the power ", a, " ** ", b,
                  " is not a real number");
      return Value(std::pow(a, b));
    default: {
      double remainder = std::fmod(a, b);
      if (remainder != 0 && (remainder < 0) != (b < 0)) remainder += b;
      if (op == Operator::kModulo) return Value(remainder == 0 ? std::copysign(0.0, b) : remainder);
      const double quotient = (a - remainder) / b;
      const double floored = std::floor(quotient);
      return Value(quotient - floored > 0.5 ? floored + 1 : floored);
    }
  }
}

Value add_texts(const Text& a, const Text& b) {
  const bool markup = a.markup() || b.markup();
  Text result = markup && !a.markup() ? escape_html(a) : a;
  result.append(markup && !b.markup() ? escape_html(b) : b);
  result.set_markup(markup);
  return Value(std::move(result));
}

bool is_list_or_tuple(const Value& value) {
  if (!value.is_sequence()) return false;
  const auto flavour = value.as_sequence().flavour;
  return flavour == Sequence::Flavour::kList || flavour == Sequence::Flavour::kTuple;
}

Value concatenate(const Sequence& a, const Sequence& b) {
  MNEME_CHECK(static_cast<int64_t>(a.items.size() + b.items.size()) <= kMaxItems,
              "a list grows beyond ", kMaxItems, " items");
  Sequence result;
  result.flavour = a.flavour;
  result.items = a.items;
  result.items.insert(result.items.end(), b.items.begin(), b.items.end());
  return Value::sequence(std::move(result));
}

Value repeat_sequence(const Sequence& sequence, int64_t times) {
  Sequence result;
  result.flavour = sequence.flavour;
  if (sequence.items.empty() || times <= 0) return Value::sequence(std::move(result));
  const auto length = static_cast<int64_t>(sequence.items.size());
  MNEME_CHECK(times <= kMaxItems / length, "a list of ", length, " items repeated ", times,
              " times is longer than ", kMaxItems);
  for (int64_t i = 0; i < times; ++i)
    result.items.insert(result.items.end(), sequence.items.begin(), sequence.items.end());
  return Value::sequence(std::move(result));
}

bool contains(const Value& container, const Value& item) {
  switch (container.kind()) {
    case Value::Kind::kText:
      if (item.is_undefined()) fail(item.undefined_message());
      MNEME_CHECK(item.is_text(), "'in <text>' needs a text on the left, got '", type_name(item),
                  "'");
      return container.as_text().bytes().find(item.as_text().bytes()) != std::string::npos;
    case Value::Kind::kDict:
      return container.as_dict().find(item) != nullptr;
    default: {
      const auto items = iterate(container);
      return std::any_of(items->begin(), items->end(),
                         [&](const Value& other) { return equal(other, item); });
    }
  }
}

int64_t bound_or(const Value& bound, int64_t fallback) {
  if (bound.is_none()) return fallback;
  if (bound.is_undefined()) fail(bound.undefined_message());
  MNEME_CHECK(bound.is_integral(), "slice bounds must be integers or none, got '", type_name(bound),
              "'");
  return bound.as_int();
}

}  // namespace

Value arithmetic(Operator op, const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return integer_arithmetic(op, a.as_int(), b.as_int());
  if (a.is_number() && b.is_number()) return real_arithmetic(op, a.as_double(), b.as_double());
  if (op == Operator::kAdd) {
    if (a.is_text() && b.is_text()) return add_texts(a.as_text(), b.as_text());
    if (is_list_or_tuple(a) && is_list_or_tuple(b) &&
        a.as_sequence().flavour == b.as_sequence().flavour)
      return concatenate(a.as_sequence(), b.as_sequence());
  }
  if (op == Operator::kMultiply) {
    const Value& repeated = a.is_integral() ? b : a;
    const Value& times = a.is_integral() ? a : b;
    if (times.is_integral() && repeated.is_text())
      return Value(repeat(repeated.as_text(), times.as_int()));
    if (times.is_integral() && is_list_or_tuple(repeated))
      return repeat_sequence(repeated.as_sequence(), times.as_int());
  }
  if (op == Operator::kModulo && a.is_text() && !b.is_undefined())
    return Value(format_percent(a.as_text(), b));
  unsupported(op, a, b);
}

bool holds(Operator op, const Value& a, const Value& b) {
  switch (op) {
    case Operator::kEqual:
      return equal(a, b);
    case Operator::kNotEqual:
      return !equal(a, b);
    case Operator::kLess:
      return compare(a, b) < 0;
    case Operator::kLessEqual:
      return compare(a, b) <= 0;
    case Operator::kGreater:
      return compare(a, b) > 0;
    case Operator::kGreaterEqual:
      return compare(a, b) >= 0;
    case Operator::kIn:
      return contains(b, a);
    case Operator::kNotIn:
      return !contains(b, a);
    default:
      unsupported(op, a, b);
  }
}

Value negate(const Value& value) {
  if (value.is_undefined()) fail(value.undefined_message());
  if (value.is_integral()) return integer_arithmetic(Operator::kSubtract, 0, value.as_int());
  MNEME_CHECK(value.is_number(), "bad operand type for unary -: '", type_name(value), "'");
  return Value(-value.as_double());
}

SliceRange slice_range(int64_t length, const Value& start, const Value& stop, const Value& step) {
  const int64_t stride = bound_or(step, 1);
  MNEME_CHECK(stride != 0, "the step of a slice cannot be zero");
  const bool backwards = stride < 0;
  const auto clip = [&](int64_t bound) {
    if (bound < 0) bound = std::max(bound, -length - 1) + length;
    if (bound < 0) return backwards ? int64_t{-1} : int64_t{0};
    return std::min(bound, backwards ? length - 1 : length);
  };
  const int64_t from = start.is_none() ? (backwards ? length - 1 : 0) : clip(bound_or(start, 0));
  const int64_t to = stop.is_none() ? (backwards ? -1 : length) : clip(bound_or(stop, 0));
  const int64_t distance = backwards ? from - to : to - from;
  if (distance <= 0) return {0, 0, 1};
  // A stride longer than the distance picks one item; clipped, it cannot overflow either.
  const int64_t width = stride == INT64_MIN ? INT64_MAX : std::abs(stride);
  const int64_t count = (distance - 1) / width + 1;
  return {from, count, count == 1 ? 1 : stride};
}

Value slice(const Value& object, const Value& start, const Value& stop, const Value& step) {
  if (object.is_undefined()) fail(object.undefined_message());
  if (object.is_text()) {
    const Text& text = object.as_text();
    const SliceRange range = slice_range(count_characters(text.bytes()), start, stop, step);
    return Value(slice_characters(text, range.start, range.count, range.step));
  }
  MNEME_CHECK(object.is_sequence() && object.as_sequence().indexable(), "'", type_name(object),
              "' object cannot be sliced");
  const Sequence& sequence = object.as_sequence();
  const SliceRange range =
      slice_range(static_cast<int64_t>(sequence.items.size()), start, stop, step);
  Sequence result;
  result.flavour = sequence.flavour;
  for (int64_t i = 0; i < range.count; ++i)
    result.items.push_back(sequence.items[static_cast<size_t>(range.start + i * range.step)]);
  if (result.flavour == Sequence::Flavour::kRange) {
    const int64_t stride = bound_or(step, 1);
    result.range_step = sequence.range_step * (range.count > 1 ? range.step : stride);
    if (range.count > 0) {
      result.range_start = result.items.front().as_int();
      result.range_stop = result.items.back().as_int() + result.range_step;
    }
  }
  return Value::sequence(std::move(result));
}

}  // namespace mneme::jinja
