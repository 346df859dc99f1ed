// The values a template computes with: Python's None, bool, int, float, str, list, tuple and dict
// as far as jinja2 templates can see them, jinja2's Undefined, and callables. Lists and
// dictionaries cannot change once made (the sandbox forbids it), so values share them. Tests:
// chat_template_oracle_test.cc.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "mneme/io/jinja/text.h"

namespace mneme::jinja {

class Value;
class Interpreter;
struct Sequence;
class Dict;
struct Namespace;
struct Function;
struct Loop;

// What a missing name or attribute evaluates to: empty in output, and an error with this message in
// most other uses.
struct Undefined {
  std::shared_ptr<const std::string> message;
};

using Values = std::vector<Value>;

class Value {
 public:
  enum class Kind {
    kNone,
    kUndefined,
    kBool,
    kInt,
    kFloat,
    kText,
    kSequence,
    kDict,
    kNamespace,
    kFunction,
    kLoop
  };

  Value() = default;                         // None
  Value(bool value) : data_(value) {}        // NOLINT(google-explicit-constructor)
  Value(int64_t value) : data_(value) {}     // NOLINT(google-explicit-constructor)
  Value(double value) : data_(value) {}      // NOLINT(google-explicit-constructor)
  Value(Text value);                         // NOLINT(google-explicit-constructor)
  Value(const char*) = delete;               // would become a bool
  Value(std::shared_ptr<const Sequence> v);  // NOLINT(google-explicit-constructor)
  Value(std::shared_ptr<const Dict> v);      // NOLINT(google-explicit-constructor)
  Value(std::shared_ptr<Namespace> v);       // NOLINT(google-explicit-constructor)
  Value(std::shared_ptr<const Function> v);  // NOLINT(google-explicit-constructor)
  Value(std::shared_ptr<Loop> v);            // NOLINT(google-explicit-constructor)

  static Value undefined(std::string message);
  // Nested deeper than kMaxValueDepth, heavier than kMaxWeight or longer than kMaxItems throws
  // Error.
  static Value list(Values items);
  static Value tuple(Values items);
  static Value generator(Values items);
  static Value sequence(Sequence sequence);
  static Value text(std::string_view bytes, Source source = Source::kTemplate);

  Kind kind() const;
  bool is_none() const { return kind() == Kind::kNone; }
  bool is_undefined() const { return kind() == Kind::kUndefined; }
  bool is_text() const { return kind() == Kind::kText; }
  bool is_dict() const { return kind() == Kind::kDict; }
  bool is_sequence() const { return kind() == Kind::kSequence; }
  // bool or int: what Python's int accepts without a call.
  bool is_integral() const { return kind() == Kind::kInt || kind() == Kind::kBool; }
  bool is_number() const { return is_integral() || kind() == Kind::kFloat; }

  bool as_bool() const { return std::get<bool>(data_); }
  int64_t as_int() const;    // of an integral value
  double as_double() const;  // of a number
  const Text& as_text() const;
  const Sequence& as_sequence() const;
  const std::shared_ptr<const Sequence>& sequence_pointer() const;
  const Dict& as_dict() const;
  const std::shared_ptr<Namespace>& as_namespace() const;
  const std::shared_ptr<const Function>& as_function() const;
  const std::shared_ptr<Loop>& as_loop() const;
  const std::string& undefined_message() const;
  // Whether both are the same object (or the same plain value), as Python's `is`.
  bool same_as(const Value& other) const;
  // Nesting of lists and dictionaries; 0 for anything else.
  int depth() const;
  // Values inside, this one included, and one more for every 64 bytes of text: what visiting all of
  // it costs.
  int64_t weight() const;

 private:
  std::variant<std::monostate, Undefined, bool, int64_t, double, std::shared_ptr<const Text>,
               std::shared_ptr<const Sequence>, std::shared_ptr<const Dict>,
               std::shared_ptr<Namespace>, std::shared_ptr<const Function>, std::shared_ptr<Loop>>
      data_;
};

struct Sequence {
  enum class Flavour { kList, kTuple, kRange, kGenerator, kKeys, kValues, kItems };
  Flavour flavour = Flavour::kList;
  Values items;
  int depth = 1;
  int64_t weight = 1;
  int64_t range_start = 0, range_stop = 0, range_step = 1;  // of kRange
  mutable bool consumed = false;                            // of kGenerator: it can be read once

  bool indexable() const {
    return flavour == Flavour::kList || flavour == Flavour::kTuple || flavour == Flavour::kRange;
  }
};

// An insertion-ordered map. Keys are hashable values, equal across int, float and bool as in
// Python.
class Dict {
 public:
  // Adds or replaces; throws Error for a list or dictionary as key.
  void set(const Value& key, Value value);
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  const std::vector<std::pair<Value, Value>>& entries() const { return entries_; }
  int depth() const { return depth_; }
  int64_t weight() const { return weight_; }

 private:
  std::vector<std::pair<Value, Value>> entries_;
  std::unordered_map<std::string, size_t> index_;
  int depth_ = 1;
  int64_t weight_ = 1;
};

// The one mutable value: {% set ns.name = ... %}.
struct Namespace {
  std::vector<std::pair<std::string, Value>> attributes;
  Value* find(std::string_view name);
  void set(const std::string& name, Value value);
};

struct Arguments {
  Values positional;
  std::vector<std::pair<std::string, Value>> named;
};

struct Function {
  std::string name;
  std::function<Value(Interpreter&, Arguments&)> call;
};

// The `loop` variable.
struct Loop {
  std::shared_ptr<const Values> items;
  size_t index = 0;
  std::optional<Values> last_changed;
};

// A key that is equal for equal hashable values; throws Error for others ("unhashable type:
// 'list'").
std::string hash_key(const Value& value);

// Python's name of the value's type, for messages.
std::string_view type_name(const Value& value);
bool truthy(const Value& value);
bool equal(const Value& a, const Value& b);
// Three-way order of numbers, texts, lists and tuples; throws Error for others. NaN is unordered.
std::partial_ordering compare(const Value& a, const Value& b);
// The items of iter(value); a generator is used up. Throws Error for what cannot be iterated.
std::shared_ptr<const Values> iterate(const Value& value);
// len(value), or nothing.
std::optional<int64_t> length_of(const Value& value);

// str(value) and repr(value).
Text to_text(const Value& value);
void append_repr(const Value& value, Text* out);
// repr(float)
std::string float_text(double value);

}  // namespace mneme::jinja
