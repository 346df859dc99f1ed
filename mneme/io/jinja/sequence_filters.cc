// Filters on lists and dictionaries as a whole.
#include "mneme/core/error.h"
#include "mneme/io/jinja/builtins.h"
#include "mneme/io/jinja/interpreter.h"
#include "mneme/io/jinja/operators.h"

namespace mneme::jinja {
namespace {

Value length_filter(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("length", arguments, {});
  const std::optional<int64_t> length = length_of(input);
  MNEME_CHECK(length, "object of type '", type_name(input), "' has no length");
  return Value(*length);
}

Value default_filter(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("default", arguments, {"default_value", "boolean"});
  if (!input.is_undefined() && !(bound.boolean(1, false) && !truthy(input))) return input;
  return bound.has(0) ? bound.at(0) : Value::text("");
}

Value join_filter(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("join", arguments, {"d", "attribute"});
  const Text separator = bound.has(0) ? to_text(bound.at(0)) : Text();
  std::vector<Text> parts;
  const auto iterated = iterate(input);
  for (const Value& item : *iterated)
    parts.push_back(to_text(bound.has(1) ? get_path(item, bound.at(1)) : item));
  return Value(join(parts, separator));
}

Value first_filter(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("first", arguments, {});
  const auto items = iterate(input);
  return items->empty() ? Value::undefined("No first item, sequence was empty.") : items->front();
}

Value last_filter(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("last", arguments, {});
  MNEME_CHECK(length_of(input), "'", type_name(input), "' object is not reversible");
  const auto items = iterate(input);
  return items->empty() ? Value::undefined("No last item, sequence was empty.") : items->back();
}

Value list_filter(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("list", arguments, {});
  return Value::list(*iterate(input));
}

Value reverse_filter(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("reverse", arguments, {});
  if (input.is_text()) return Value(reversed(input.as_text()));
  const auto items = iterate(input);
  return Value::generator(Values(items->rbegin(), items->rend()));
}

Value items_filter(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("items", arguments, {});
  if (input.is_undefined()) return Value::generator({});
  MNEME_CHECK(input.is_dict(), "items needs a mapping, got '", type_name(input), "'");
  Values items;
  for (const auto& [key, value] : input.as_dict().entries())
    items.push_back(Value::tuple({key, value}));
  return Value::generator(std::move(items));
}

Value sum_filter(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("sum", arguments, {"attribute", "start"});
  Value total = bound.has(1) ? bound.at(1) : Value(int64_t{0});
  MNEME_CHECK(!total.is_text(), "sum cannot add texts: use join");
  const auto iterated = iterate(input);
  for (const Value& item : *iterated)
    total = arithmetic(Operator::kAdd, total, bound.has(0) ? get_path(item, bound.at(0)) : item);
  return total;
}

Value batch_filter(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("batch", arguments, {"linecount", "fill_with"}, 1);
  const int64_t size = bound.integer(0, 1);
  MNEME_CHECK(size > 0 && size <= 100'000, "batch: the size must be 1..100000, got ", size);
  Values batches, batch;
  const auto iterated = iterate(input);
  for (const Value& item : *iterated) {
    if (static_cast<int64_t>(batch.size()) == size)
      batches.push_back(Value::list(std::exchange(batch, {})));
    batch.push_back(item);
  }
  if (!batch.empty()) {
    if (bound.has(1) && !bound.at(1).is_none())
      batch.resize(static_cast<size_t>(size), bound.at(1));
    batches.push_back(Value::list(std::move(batch)));
  }
  return Value::generator(std::move(batches));
}

Value slice_filter(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("slice", arguments, {"slices", "fill_with"}, 1);
  const int64_t slices = bound.integer(0, 1);
  MNEME_CHECK(slices > 0 && slices <= 100'000, "slice: the count must be 1..100000, got ", slices);
  const auto items = iterate(input);
  const auto length = static_cast<int64_t>(items->size());
  Values result;
  auto next = items->begin();
  for (int64_t i = 0; i < slices; ++i) {
    const bool longer = i < length % slices;
    Values part(next, next + (length / slices + (longer ? 1 : 0)));
    next += static_cast<std::ptrdiff_t>(part.size());
    if (bound.has(1) && !bound.at(1).is_none() && !longer) part.push_back(bound.at(1));
    result.push_back(Value::list(std::move(part)));
  }
  return Value::generator(std::move(result));
}

Value attr_filter(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("attr", arguments, {"name"}, 1);
  const Value found = get_attribute(input, bound.text(0).bytes());
  // Entries of a dictionary are no attributes.
  if (input.is_dict() && found.kind() != Value::Kind::kFunction)
    return Value::undefined(concat("'dict object' has no attribute '", bound.text(0).bytes(), "'"));
  return found;
}

}  // namespace

const std::vector<NamedFilter>& sequence_filters() {
  static const std::vector<NamedFilter> table = {
      {"attr", attr_filter},     {"batch", batch_filter},     {"count", length_filter},
      {"d", default_filter},     {"default", default_filter}, {"first", first_filter},
      {"items", items_filter},   {"join", join_filter},       {"last", last_filter},
      {"length", length_filter}, {"list", list_filter},       {"reverse", reverse_filter},
      {"slice", slice_filter},   {"sum", sum_filter},
  };
  return table;
}

}  // namespace mneme::jinja
