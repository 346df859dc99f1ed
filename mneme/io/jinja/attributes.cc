// obj.name and obj[key]: the order in which jinja2's sandbox looks at attributes and items.
#include <algorithm>

#include "mneme/core/error.h"
#include "mneme/io/jinja/builtins.h"
#include "mneme/io/jinja/operators.h"

namespace mneme::jinja {
namespace {

// The special attributes that Python's objects have: the sandbox refuses them all. Other names of
// that shape are looked up as entries, as jinja2 does.
bool is_internal(std::string_view name) {
  constexpr std::string_view kNames[] = {
      "__class__",        "__base__",       "__bases__",        "__mro__",      "__subclasses__",
      "__init__",         "__new__",        "__del__",          "__dict__",     "__doc__",
      "__dir__",          "__module__",     "__name__",         "__qualname__", "__globals__",
      "__builtins__",     "__code__",       "__closure__",      "__func__",     "__self__",
      "__defaults__",     "__kwdefaults__", "__call__",         "__get__",      "__getattribute__",
      "__getattr__",      "__setattr__",    "__delattr__",      "__reduce__",   "__reduce_ex__",
      "__getstate__",     "__getnewargs__", "__sizeof__",       "__format__",   "__init_subclass__",
      "__subclasshook__", "__repr__",       "__str__",          "__hash__",     "__eq__",
      "__ne__",           "__lt__",         "__le__",           "__gt__",       "__ge__",
      "__len__",          "__iter__",       "__contains__",     "__getitem__",  "__setitem__",
      "__delitem__",      "__reversed__",   "__add__",          "__mul__",      "__rmul__",
      "__iadd__",         "__imul__",       "__mod__",          "__rmod__",     "__or__",
      "__ror__",          "__ior__",        "__class_getitem__"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

std::string object_name(const Value& object) {
  if (object.is_none()) return "None";
  return concat("'", type_name(object), " object'");
}

Value missing(const Value& object, const Value& key) {
  if (key.is_text())
    return Value::undefined(
        concat(object_name(object), " has no attribute '", key.as_text().bytes(), "'"));
  return Value::undefined(
      concat(type_name(object), " object has no element ", to_text(key).bytes()));
}

Value method(std::string name, std::function<Value(Interpreter&, Arguments&)> call) {
  auto function = std::make_shared<Function>();
  function->name = std::move(name);
  function->call = std::move(call);
  return Value(std::shared_ptr<const Function>(std::move(function)));
}

std::optional<Value> loop_attribute(const std::shared_ptr<Loop>& loop, std::string_view name) {
  const auto index = static_cast<int64_t>(loop->index);
  const auto length = static_cast<int64_t>(loop->items->size());
  if (name == "index") return Value(index + 1);
  if (name == "index0") return Value(index);
  if (name == "revindex") return Value(length - index);
  if (name == "revindex0") return Value(length - index - 1);
  if (name == "first") return Value(index == 0);
  if (name == "last") return Value(index + 1 == length);
  if (name == "length") return Value(length);
  if (name == "depth") return Value(int64_t{1});
  if (name == "depth0") return Value(int64_t{0});
  if (name == "previtem")
    return index ? (*loop->items)[loop->index - 1] : Value::undefined("there is no previous item");
  if (name == "nextitem")
    return index + 1 < length ? (*loop->items)[loop->index + 1]
                              : Value::undefined("there is no next item");
  if (name == "cycle")
    return method("cycle", [loop](Interpreter&, Arguments& arguments) {
      MNEME_CHECK(!arguments.positional.empty(), "loop.cycle needs at least one item");
      return arguments.positional[loop->index % arguments.positional.size()];
    });
  if (name == "changed")
    return method("changed", [loop](Interpreter&, Arguments& arguments) {
      const Values& now = arguments.positional;
      const bool same = loop->last_changed && loop->last_changed->size() == now.size() &&
                        std::equal(now.begin(), now.end(), loop->last_changed->begin(), equal);
      loop->last_changed = now;
      return Value(!same);
    });
  return std::nullopt;
}

// An attribute in Python's sense, without the items of a dictionary.
std::optional<Value> attribute(const Value& object, const std::string& name) {
  if (is_internal(name))
    return Value::undefined(
        concat("access to attribute '", name, "' of ", object_name(object), " is unsafe"));
  switch (object.kind()) {
    case Value::Kind::kText:
      return text_method(object, name);
    case Value::Kind::kDict:
    case Value::Kind::kSequence:
      return container_method(object, name);
    case Value::Kind::kNamespace:
      if (const Value* found = object.as_namespace()->find(name)) return *found;
      return std::nullopt;
    case Value::Kind::kLoop:
      return loop_attribute(object.as_loop(), name);
    case Value::Kind::kFunction:
      if (name == "name") return Value::text(object.as_function()->name);
      return std::nullopt;
    default:
      return std::nullopt;
  }
}

std::optional<Value> item(const Value& object, const Value& key) {
  if (object.is_dict()) {
    // A list as key is a TypeError, which jinja2 answers with Undefined.
    if (key.depth() > 0 &&
        !(key.is_sequence() && key.as_sequence().flavour == Sequence::Flavour::kTuple))
      return std::nullopt;
    if (const Value* found = object.as_dict().find(key)) return *found;
    return std::nullopt;
  }
  if (!key.is_integral()) return std::nullopt;
  if (object.is_text()) {
    const Value length(*length_of(object));
    const int64_t index = key.as_int() < 0 ? key.as_int() + length.as_int() : key.as_int();
    if (index < 0 || index >= length.as_int()) return std::nullopt;
    return Value(slice_characters(object.as_text(), index, 1, 1));
  }
  if (object.is_sequence() && object.as_sequence().indexable()) {
    const Values& items = object.as_sequence().items;
    const auto length = static_cast<int64_t>(items.size());
    const int64_t index = key.as_int() < 0 ? key.as_int() + length : key.as_int();
    if (index < 0 || index >= length) return std::nullopt;
    return items[static_cast<size_t>(index)];
  }
  return std::nullopt;
}

}  // namespace

Value get_attribute(const Value& object, const std::string& name) {
  if (object.is_undefined()) fail(object.undefined_message());
  if (std::optional<Value> found = attribute(object, name)) return *found;
  const Value key = Value::text(name);
  if (std::optional<Value> found = item(object, key)) return *found;
  return missing(object, key);
}

Value get_item(const Value& object, const Value& key) {
  if (object.is_undefined()) fail(object.undefined_message());
  if (std::optional<Value> found = item(object, key)) return *found;
  if (key.is_text())
    if (std::optional<Value> found = attribute(object, key.as_text().bytes())) return *found;
  return missing(object, key);
}

Value get_path(const Value& object, const Value& path) {
  if (path.is_none()) return object;
  if (!path.is_text()) return get_item(object, path);
  Value value = object;
  for (const Text& part : split(path.as_text(), ".", -1)) {
    const std::string& name = part.bytes();
    const bool index = !name.empty() && name.size() < 18 &&
                       name.find_first_not_of("0123456789") == std::string::npos;
    value = get_item(value, index ? Value(int64_t{std::stoll(name)}) : Value(part));
  }
  return value;
}

}  // namespace mneme::jinja
