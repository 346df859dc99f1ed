// What a template can call by name: filters, tests, global functions, and the methods and
// attributes of values. Semantics are jinja2 3.1's with the sandbox and the overrides of
// transformers (`tojson` without HTML escaping, `raise_exception`, `strftime_now`). Tests:
// chat_template_oracle_test.cc, tests/templates/snippets.json.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "mneme/io/jinja/value.h"

namespace mneme::jinja {

using Filter = Value (*)(Interpreter&, const Value& input, Arguments&);
using Test = bool (*)(Interpreter&, const Value& input, Arguments&);

// Null when there is none of that name.
Filter find_filter(std::string_view name);
Test find_test(std::string_view name);
// range, dict, namespace, raise_exception, strftime_now; null for others.
const Value* find_global(std::string_view name);

// The tables behind find_filter(), one a source file.
struct NamedFilter {
  std::string_view name;
  Filter filter;
};
const std::vector<NamedFilter>& text_filters();
const std::vector<NamedFilter>& number_filters();
const std::vector<NamedFilter>& sequence_filters();
const std::vector<NamedFilter>& selection_filters();

// obj.name: an attribute or method first, then an entry of a dictionary.
Value get_attribute(const Value& object, const std::string& name);
// obj[key]: an item first, then an attribute when the key is a text.
Value get_item(const Value& object, const Value& key);
// A method of a text or dictionary bound to it, or nothing.
std::optional<Value> text_method(const Value& object, std::string_view name);
std::optional<Value> container_method(const Value& object, std::string_view name);
// The path "a.b.0" of a filter's `attribute` argument followed from `object`.
Value get_path(const Value& object, const Value& path);

// Arguments by position or name, as a Python function with these parameters takes them; the first
// `required` must be given. Throws Error naming `function` and the argument that does not fit.
class Bound {
 public:
  Bound(std::string_view function, Arguments& arguments, std::vector<std::string_view> parameters,
        size_t required = 0);
  bool has(size_t index) const { return values_[index].has_value(); }
  const Value& at(size_t index) const { return *values_[index]; }
  // Null when not given.
  const Value* find(size_t index) const { return has(index) ? &*values_[index] : nullptr; }
  // Of the type asked, or the default when not given; another type throws Error.
  int64_t integer(size_t index, int64_t fallback) const;
  bool boolean(size_t index, bool fallback) const;  // any value, by its truth
  const Text& text(size_t index) const;             // required arguments only

 private:
  std::string_view function_;
  std::vector<std::string_view> parameters_;
  std::vector<std::optional<Value>> values_;
};

}  // namespace mneme::jinja
