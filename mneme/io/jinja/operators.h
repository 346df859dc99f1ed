// Python's operators on values. Tests: chat_template_oracle_test.cc, tests/templates/snippets.json.
#pragma once

#include "mneme/io/jinja/ast.h"
#include "mneme/io/jinja/value.h"

namespace mneme::jinja {

// a op b for the arithmetic operators. Throws Error for types that do not go together, division by
// zero and integers beyond 64 bits.
Value arithmetic(Operator op, const Value& a, const Value& b);
// a op b for the comparisons, `in` and `not in`.
bool holds(Operator op, const Value& a, const Value& b);
Value negate(const Value& value);
// object[start:stop:step]; None bounds are open.
Value slice(const Value& object, const Value& start, const Value& stop, const Value& step);
// The first index and the number of items of a slice over `length` items.
struct SliceRange {
  int64_t start, count, step;
};
SliceRange slice_range(int64_t length, const Value& start, const Value& stop, const Value& step);

}  // namespace mneme::jinja
