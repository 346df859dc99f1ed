// Filters that order, pick and map the items of a sequence.
#include <algorithm>
#include <unordered_set>

#include "mneme/core/error.h"
#include "mneme/io/jinja/builtins.h"
#include "mneme/io/jinja/interpreter.h"

namespace mneme::jinja {
namespace {

// Text without its case unless `case_sensitive`: what jinja2 compares by.
Value key_of(const Value& value, bool case_sensitive) {
  return !case_sensitive && value.is_text() ? Value(lower(value.as_text())) : value;
}

using Keyed = std::pair<Value, Value>;  // key, item

// A stable sort by key that counts its comparisons.
void sort_by_key(Interpreter& interpreter, std::vector<Keyed>* items, bool reverse) {
  const auto before = [&](const Keyed& a, const Keyed& b) {
    interpreter.charge(1 + std::min(a.first.weight(), b.first.weight()) / 4);
    return reverse ? compare(b.first, a.first) < 0 : compare(a.first, b.first) < 0;
  };
  std::stable_sort(items->begin(), items->end(), before);
}

Value items_of(std::vector<Keyed> keyed) {
  Values items;
  for (Keyed& entry : keyed) items.push_back(std::move(entry.second));
  return Value::list(std::move(items));
}

Value sort_filter(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  const Bound bound("sort", arguments, {"reverse", "case_sensitive", "attribute"});
  std::vector<Keyed> keyed;
  const auto iterated = iterate(input);
  for (const Value& item : *iterated) {
    if (!bound.has(2) || !bound.at(2).is_text()) {
      const Value path = bound.has(2) ? bound.at(2) : Value();
      keyed.emplace_back(key_of(get_path(item, path), bound.boolean(1, false)), item);
      continue;
    }
    Values keys;  // several attributes, separated by commas
    for (const Text& path : split(bound.text(2), ",", -1))
      keys.push_back(key_of(get_path(item, Value(path)), bound.boolean(1, false)));
    keyed.emplace_back(Value::list(std::move(keys)), item);
  }
  sort_by_key(interpreter, &keyed, bound.boolean(0, false));
  return items_of(std::move(keyed));
}

Value dictsort_filter(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  const Bound bound("dictsort", arguments, {"case_sensitive", "by", "reverse"});
  if (input.is_undefined()) fail(input.undefined_message());
  MNEME_CHECK(input.is_dict(), "dictsort needs a mapping, got '", type_name(input), "'");
  const std::string by = bound.has(1) ? bound.text(1).bytes() : "key";
  MNEME_CHECK(by == "key" || by == "value", "dictsort: by must be 'key' or 'value', got '", by,
              "'");
  std::vector<Keyed> keyed;
  for (const auto& [key, value] : input.as_dict().entries())
    keyed.emplace_back(key_of(by == "key" ? key : value, bound.boolean(0, false)),
                       Value::tuple({key, value}));
  sort_by_key(interpreter, &keyed, bound.boolean(2, false));
  return items_of(std::move(keyed));
}

Value unique_filter(Interpreter&, const Value& input, Arguments& arguments) {
  const Bound bound("unique", arguments, {"case_sensitive", "attribute"});
  std::unordered_set<std::string> seen;
  Values kept;
  const auto iterated = iterate(input);
  for (const Value& item : *iterated) {
    const Value key = get_path(item, bound.has(1) ? bound.at(1) : Value());
    if (seen.insert(hash_key(key_of(key, bound.boolean(0, false)))).second) kept.push_back(item);
  }
  return Value::generator(std::move(kept));
}

template <bool largest>
Value extreme_filter(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  const Bound bound(largest ? "max" : "min", arguments, {"case_sensitive", "attribute"});
  const auto items = iterate(input);
  if (items->empty()) return Value::undefined("No aggregated item, sequence was empty.");
  const auto key = [&](const Value& item) {
    return key_of(get_path(item, bound.has(1) ? bound.at(1) : Value()), bound.boolean(0, false));
  };
  const Value* best = &items->front();
  Value best_key = key(*best);
  for (size_t i = 1; i < items->size(); ++i) {
    Value other = key((*items)[i]);
    interpreter.charge(1 + std::min(best_key.weight(), other.weight()) / 4);
    if (largest ? compare(other, best_key) > 0 : compare(other, best_key) < 0) {
      best = &(*items)[i];
      best_key = std::move(other);
    }
  }
  return *best;
}

Value groupby_filter(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  const Bound bound("groupby", arguments, {"attribute", "default", "case_sensitive"}, 1);
  const auto raw_key = [&](const Value& item) {
    Value key = get_path(item, bound.at(0));
    return key.is_undefined() && bound.has(1) ? bound.at(1) : key;
  };
  std::vector<Keyed> keyed;
  const auto iterated = iterate(input);
  for (const Value& item : *iterated)
    keyed.emplace_back(key_of(raw_key(item), bound.boolean(2, false)), item);
  sort_by_key(interpreter, &keyed, false);
  Values groups;
  for (size_t begin = 0; begin < keyed.size();) {
    Values members;
    size_t end = begin;
    while (end < keyed.size() && equal(keyed[end].first, keyed[begin].first))
      members.push_back(keyed[end++].second);
    Value key = raw_key(members.front());
    groups.push_back(Value::tuple({std::move(key), Value::list(std::move(members))}));
    begin = end;
  }
  return Value::list(std::move(groups));
}

// Removes and returns an argument given by name.
std::optional<Value> take_named(Arguments* arguments, std::string_view name) {
  for (auto argument = arguments->named.begin(); argument != arguments->named.end(); ++argument) {
    if (argument->first != name) continue;
    Value value = std::move(argument->second);
    arguments->named.erase(argument);
    return value;
  }
  return std::nullopt;
}

// Removes and returns the first positional argument, which names a filter, test or attribute.
Value take_first(Arguments* arguments, std::string_view function) {
  MNEME_CHECK(!arguments->positional.empty(), function, " needs an argument");
  Value value = std::move(arguments->positional.front());
  arguments->positional.erase(arguments->positional.begin());
  return value;
}

std::string name_of(const Value& value, std::string_view function) {
  MNEME_CHECK(value.is_text(), function, " needs a name, got '", type_name(value), "'");
  return value.as_text().bytes();
}

Value map_filter(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  Values mapped;
  const auto items = iterate(input);
  if (arguments.positional.empty()) {
    const std::optional<Value> path = take_named(&arguments, "attribute");
    const std::optional<Value> fallback = take_named(&arguments, "default");
    MNEME_CHECK(path && arguments.named.empty(),
                "map needs the name of a filter, or attribute= and default= only");
    for (const Value& item : *items) {
      Value value = get_path(item, *path);
      mapped.push_back(value.is_undefined() && fallback ? *fallback : std::move(value));
    }
  } else {
    const std::string filter = name_of(take_first(&arguments, "map"), "map");
    for (const Value& item : *items) {
      Arguments copy = arguments;
      interpreter.charge(1);
      mapped.push_back(interpreter.apply_filter(filter, item, copy));
    }
  }
  return Value::generator(std::move(mapped));
}

template <bool keep, bool by_attribute>
Value select_filter(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  const std::string_view function = by_attribute ? "selectattr" : "select";
  Value path;
  if constexpr (by_attribute) path = take_first(&arguments, function);
  std::string test;
  if (!arguments.positional.empty()) test = name_of(take_first(&arguments, function), function);
  Values kept;
  const auto iterated = iterate(input);
  for (const Value& item : *iterated) {
    const Value value = get_path(item, path);
    Arguments copy = arguments;
    const bool passes = test.empty() ? truthy(value) : interpreter.apply_test(test, value, copy);
    if (passes == keep) kept.push_back(item);
  }
  return Value::generator(std::move(kept));
}

}  // namespace

const std::vector<NamedFilter>& selection_filters() {
  static const std::vector<NamedFilter> table = {
      {"dictsort", dictsort_filter},
      {"groupby", groupby_filter},
      {"map", map_filter},
      {"max", extreme_filter<true>},
      {"min", extreme_filter<false>},
      {"reject", select_filter<false, false>},
      {"rejectattr", select_filter<false, true>},
      {"select", select_filter<true, false>},
      {"selectattr", select_filter<true, true>},
      {"sort", sort_filter},
      {"unique", unique_filter},
  };
  return table;
}

}  // namespace mneme::jinja
