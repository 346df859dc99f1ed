#include "mneme/io/jinja/value.h"

#include <algorithm>
#include <cmath>
#include <compare>

#include "mneme/core/error.h"
#include "mneme/io/jinja/limits.h"
#include "mneme/io/jinja/unicode.h"

namespace mneme::jinja {
namespace {

void check_nesting(int depth, int64_t weight) {
  MNEME_CHECK(depth <= kMaxValueDepth, "values are nested deeper than ", kMaxValueDepth);
  MNEME_CHECK(weight <= kMaxWeight, "a list or dictionary holds more than ", kMaxWeight, " values");
}

Value flavoured(Sequence::Flavour flavour, Values items) {
  Sequence sequence;
  sequence.flavour = flavour;
  sequence.items = std::move(items);
  return Value::sequence(std::move(sequence));
}

}  // namespace

Value::Value(Text value) : data_(std::make_shared<const Text>(std::move(value))) {}
Value::Value(std::shared_ptr<const Sequence> v) : data_(std::move(v)) {}
Value::Value(std::shared_ptr<const Dict> v) : data_(std::move(v)) {}
Value::Value(std::shared_ptr<Namespace> v) : data_(std::move(v)) {}
Value::Value(std::shared_ptr<const Function> v) : data_(std::move(v)) {}
Value::Value(std::shared_ptr<Loop> v) : data_(std::move(v)) {}

Value Value::undefined(std::string message) {
  Value value;
  value.data_ = Undefined{std::make_shared<const std::string>(std::move(message))};
  return value;
}
Value Value::list(Values items) { return flavoured(Sequence::Flavour::kList, std::move(items)); }
Value Value::tuple(Values items) { return flavoured(Sequence::Flavour::kTuple, std::move(items)); }
Value Value::generator(Values items) {
  return flavoured(Sequence::Flavour::kGenerator, std::move(items));
}
Value Value::sequence(Sequence sequence) {
  MNEME_CHECK(static_cast<int64_t>(sequence.items.size()) <= kMaxItems, "a list of ",
              sequence.items.size(), " items is longer than ", kMaxItems);
  sequence.depth = 1;
  sequence.weight = 1;
  for (const Value& item : sequence.items) {
    sequence.depth = std::max(sequence.depth, item.depth() + 1);
    sequence.weight += item.weight();
  }
  check_nesting(sequence.depth, sequence.weight);
  return Value(std::make_shared<const Sequence>(std::move(sequence)));
}
Value Value::text(std::string_view bytes, Source source) {
  return Value(Text(std::string(bytes), source));
}

Value::Kind Value::kind() const {
  constexpr Kind kKinds[] = {Kind::kNone,      Kind::kUndefined, Kind::kBool,     Kind::kInt,
                             Kind::kFloat,     Kind::kText,      Kind::kSequence, Kind::kDict,
                             Kind::kNamespace, Kind::kFunction,  Kind::kLoop};
  return kKinds[data_.index()];
}

int64_t Value::as_int() const {
  return kind() == Kind::kBool ? int64_t{std::get<bool>(data_)} : std::get<int64_t>(data_);
}
double Value::as_double() const {
  return kind() == Kind::kFloat ? std::get<double>(data_) : static_cast<double>(as_int());
}
const Text& Value::as_text() const { return *std::get<std::shared_ptr<const Text>>(data_); }
const Sequence& Value::as_sequence() const {
  return *std::get<std::shared_ptr<const Sequence>>(data_);
}
const std::shared_ptr<const Sequence>& Value::sequence_pointer() const {
  return std::get<std::shared_ptr<const Sequence>>(data_);
}
const Dict& Value::as_dict() const { return *std::get<std::shared_ptr<const Dict>>(data_); }
const std::shared_ptr<Namespace>& Value::as_namespace() const {
  return std::get<std::shared_ptr<Namespace>>(data_);
}
const std::shared_ptr<const Function>& Value::as_function() const {
  return std::get<std::shared_ptr<const Function>>(data_);
}
const std::shared_ptr<Loop>& Value::as_loop() const {
  return std::get<std::shared_ptr<Loop>>(data_);
}
const std::string& Value::undefined_message() const { return *std::get<Undefined>(data_).message; }

bool Value::same_as(const Value& other) const {
  if (kind() != other.kind()) return false;
  return std::visit(
      [&other](const auto& mine) {
        using T = std::decay_t<decltype(mine)>;
        const T& theirs = std::get<T>(other.data_);
        if constexpr (std::is_same_v<T, Undefined>) {
          return mine.message == theirs.message;
        } else if constexpr (std::is_same_v<T, std::shared_ptr<const Text>>) {
          return mine->bytes() == theirs->bytes();
        } else {
          return mine == theirs;
        }
      },
      data_);
}

int Value::depth() const {
  if (is_sequence()) return as_sequence().depth;
  if (is_dict()) return as_dict().depth();
  return 0;
}

int64_t Value::weight() const {
  if (is_sequence()) return as_sequence().weight;
  if (is_dict()) return as_dict().weight();
  if (is_text()) return 1 + as_text().size() / 64;
  return 1;
}

void Dict::set(const Value& key, Value value) {
  MNEME_CHECK(static_cast<int64_t>(entries_.size()) < kMaxItems, "a dictionary has more than ",
              kMaxItems, " entries");
  depth_ = std::max({depth_, key.depth() + 1, value.depth() + 1});
  weight_ += key.weight() + value.weight();
  check_nesting(depth_, weight_);
  const auto [where, added] = index_.emplace(hash_key(key), entries_.size());
  if (added) {
    entries_.emplace_back(key, std::move(value));
  } else {
    entries_[where->second].second = std::move(value);
  }
}

const Value* Dict::find(const Value& key) const {
  const auto found = index_.find(hash_key(key));
  return found == index_.end() ? nullptr : &entries_[found->second].second;
}

const Value* Dict::find(std::string_view key) const {
  const auto found = index_.find(concat('s', key));
  return found == index_.end() ? nullptr : &entries_[found->second].second;
}

Value* Namespace::find(std::string_view name) {
  for (auto& [key, value] : attributes)
    if (key == name) return &value;
  return nullptr;
}

void Namespace::set(const std::string& name, Value value) {
  if (Value* existing = find(name)) {
    *existing = std::move(value);
  } else {
    attributes.emplace_back(name, std::move(value));
  }
}

std::string hash_key(const Value& value) {
  switch (value.kind()) {
    case Value::Kind::kNone:
      return "n";
    case Value::Kind::kBool:
    case Value::Kind::kInt:
      return concat('i', value.as_int());
    case Value::Kind::kFloat: {
      const double number = value.as_double();
      if (std::floor(number) == number && std::fabs(number) < 9e18)
        return concat('i', static_cast<int64_t>(number));
      return "f" + float_text(number);
    }
    case Value::Kind::kText:
      return "s" + value.as_text().bytes();
    case Value::Kind::kUndefined:
      return "u";
    case Value::Kind::kSequence: {
      const Sequence& sequence = value.as_sequence();
      if (sequence.flavour != Sequence::Flavour::kTuple) break;
      std::string key = "(";
      for (const Value& item : sequence.items) {
        const std::string part = hash_key(item);
        MNEME_CHECK(static_cast<int64_t>(key.size() + part.size()) < kMaxTextBytes,
                    "a dictionary key is longer than ", kMaxTextBytes, " bytes");
        key += concat(part.size(), ':', part);
      }
      return key;
    }
    case Value::Kind::kNamespace:
      return concat('p', static_cast<const void*>(value.as_namespace().get()));
    case Value::Kind::kFunction:
      return concat('p', static_cast<const void*>(value.as_function().get()));
    case Value::Kind::kLoop:
      return concat('p', static_cast<const void*>(value.as_loop().get()));
    case Value::Kind::kDict:
      break;
  }
  fail("unhashable type: '", type_name(value), "'");
}

std::string_view type_name(const Value& value) {
  switch (value.kind()) {
    case Value::Kind::kNone:
      return "NoneType";
    case Value::Kind::kUndefined:
      return "Undefined";
    case Value::Kind::kBool:
      return "bool";
    case Value::Kind::kInt:
      return "int";
    case Value::Kind::kFloat:
      return "float";
    case Value::Kind::kText:
      return "str";
    case Value::Kind::kDict:
      return "dict";
    case Value::Kind::kNamespace:
      return "Namespace";
    case Value::Kind::kFunction:
      return "function";
    case Value::Kind::kLoop:
      return "LoopContext";
    case Value::Kind::kSequence:
      break;
  }
  constexpr std::string_view kNames[] = {"list",      "tuple",       "range",     "generator",
                                         "dict_keys", "dict_values", "dict_items"};
  return kNames[static_cast<size_t>(value.as_sequence().flavour)];
}

bool truthy(const Value& value) {
  switch (value.kind()) {
    case Value::Kind::kNone:
    case Value::Kind::kUndefined:
      return false;
    case Value::Kind::kBool:
    case Value::Kind::kInt:
      return value.as_int() != 0;
    case Value::Kind::kFloat:
      return value.as_double() != 0;
    case Value::Kind::kText:
      return !value.as_text().empty();
    case Value::Kind::kSequence:
      return value.as_sequence().flavour == Sequence::Flavour::kGenerator ||
             !value.as_sequence().items.empty();
    case Value::Kind::kDict:
      return !value.as_dict().entries().empty();
    case Value::Kind::kNamespace:
    case Value::Kind::kFunction:
    case Value::Kind::kLoop:
      return true;
  }
  return true;
}

bool equal(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return a.as_int() == b.as_int();
  if (a.is_number() && b.is_number()) return compare(a, b) == std::partial_ordering::equivalent;
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Value::Kind::kText:
      return a.as_text().bytes() == b.as_text().bytes();
    case Value::Kind::kUndefined:
      return true;
    case Value::Kind::kSequence: {
      const Sequence &x = a.as_sequence(), &y = b.as_sequence();
      if (&x == &y) return true;
      if (x.flavour != y.flavour || x.flavour == Sequence::Flavour::kGenerator) return false;
      return std::equal(x.items.begin(), x.items.end(), y.items.begin(), y.items.end(), equal);
    }
    case Value::Kind::kDict: {
      const Dict &x = a.as_dict(), &y = b.as_dict();
      if (x.entries().size() != y.entries().size()) return false;
      for (const auto& [key, value] : x.entries()) {
        const Value* other = y.find(key);
        if (!other || !equal(value, *other)) return false;
      }
      return true;
    }
    default:
      return a.same_as(b);
  }
}

std::partial_ordering compare(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return a.as_int() <=> b.as_int();
  if (a.is_number() && b.is_number()) {
    // long double holds every int64 exactly on the machines that can tell the difference
    const auto wide = [](const Value& v) {
      return v.is_integral() ? static_cast<long double>(v.as_int())
                             : static_cast<long double>(v.as_double());
    };
    return wide(a) <=> wide(b);
  }
  if (a.is_text() && b.is_text()) return a.as_text().bytes().compare(b.as_text().bytes()) <=> 0;
  if (a.is_sequence() && b.is_sequence()) {
    const Sequence &x = a.as_sequence(), &y = b.as_sequence();
    const bool ordered =
        x.flavour == Sequence::Flavour::kList || x.flavour == Sequence::Flavour::kTuple;
    if (ordered && x.flavour == y.flavour) {
      for (size_t i = 0; i < std::min(x.items.size(), y.items.size()); ++i)
        if (!equal(x.items[i], y.items[i])) return compare(x.items[i], y.items[i]);
      return x.items.size() <=> y.items.size();
    }
  }
  if (a.is_undefined()) fail(a.undefined_message());
  if (b.is_undefined()) fail(b.undefined_message());
  fail("values of type '", type_name(a), "' and '", type_name(b), "' have no order");
}

std::shared_ptr<const Values> iterate(const Value& value) {
  Values items;
  switch (value.kind()) {
    case Value::Kind::kUndefined:
      break;
    case Value::Kind::kText: {
      const int64_t count = count_characters(value.as_text().bytes());
      MNEME_CHECK(count <= kMaxItems, "a text of ", count, " characters is iterated, at most ",
                  kMaxItems, " are allowed");
      items.reserve(static_cast<size_t>(count));
      for (Text& character : split_characters(value.as_text()))
        items.emplace_back(std::move(character));
      break;
    }
    case Value::Kind::kSequence: {
      const std::shared_ptr<const Sequence>& sequence = value.sequence_pointer();
      if (sequence->flavour == Sequence::Flavour::kGenerator &&
          std::exchange(sequence->consumed, true))
        break;
      return {sequence, &sequence->items};
    }
    case Value::Kind::kDict:
      for (const auto& entry : value.as_dict().entries()) items.push_back(entry.first);
      break;
    default:
      fail("'", type_name(value), "' object is not iterable");
  }
  return std::make_shared<const Values>(std::move(items));
}

std::optional<int64_t> length_of(const Value& value) {
  switch (value.kind()) {
    case Value::Kind::kUndefined:
      return 0;
    case Value::Kind::kText:
      return count_characters(value.as_text().bytes());
    case Value::Kind::kDict:
      return static_cast<int64_t>(value.as_dict().entries().size());
    case Value::Kind::kLoop:
      return static_cast<int64_t>(value.as_loop()->items->size());
    case Value::Kind::kSequence:
      if (value.as_sequence().flavour == Sequence::Flavour::kGenerator) return std::nullopt;
      return static_cast<int64_t>(value.as_sequence().items.size());
    default:
      return std::nullopt;
  }
}

}  // namespace mneme::jinja
