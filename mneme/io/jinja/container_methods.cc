// The methods of dict, list and tuple that a template can call; those that change a container are
// refused, as the immutable sandbox does.
#include <algorithm>

#include "mneme/core/error.h"
#include "mneme/io/jinja/builtins.h"
#include "mneme/io/jinja/interpreter.h"

namespace mneme::jinja {
namespace {

using Call = std::function<Value(Interpreter&, Arguments&)>;

Value make(std::string_view name, Call call) {
  auto function = std::make_shared<Function>();
  function->name = std::string(name);
  function->call = std::move(call);
  return Value(std::shared_ptr<const Function>(std::move(function)));
}

Value refused(const Value& object, std::string_view name) {
  return Value::undefined(concat("'", name, "' would change a ", type_name(object),
                                 ": templates cannot change lists and dictionaries"));
}

Value view(const Dict& dict, Sequence::Flavour flavour) {
  Sequence sequence;
  sequence.flavour = flavour;
  for (const auto& [key, value] : dict.entries()) {
    if (flavour == Sequence::Flavour::kItems) {
      sequence.items.push_back(Value::tuple({key, value}));
    } else {
      sequence.items.push_back(flavour == Sequence::Flavour::kKeys ? key : value);
    }
  }
  return Value::sequence(std::move(sequence));
}

std::optional<Value> dict_method(const Value& object, std::string_view name) {
  for (const std::string_view mutator : {"clear", "pop", "popitem", "setdefault", "update"})
    if (name == mutator) return refused(object, name);
  const auto view_of = [&](Sequence::Flavour flavour) {
    return make(name, [object, flavour](Interpreter&, Arguments& arguments) {
      const Bound bound("the method", arguments, {});
      return view(object.as_dict(), flavour);
    });
  };
  if (name == "items") return view_of(Sequence::Flavour::kItems);
  if (name == "keys") return view_of(Sequence::Flavour::kKeys);
  if (name == "values") return view_of(Sequence::Flavour::kValues);
  if (name == "copy") return make(name, [object](Interpreter&, Arguments&) { return object; });
  if (name == "get")
    return make(name, [object](Interpreter&, Arguments& arguments) {
      const Bound bound("get", arguments, {"key", "default"}, 1);
      if (const Value* found = object.as_dict().find(bound.at(0))) return *found;
      return bound.has(1) ? bound.at(1) : Value();
    });
  return std::nullopt;
}

std::optional<Value> list_method(const Value& object, std::string_view name) {
  const auto flavour = object.as_sequence().flavour;
  if (flavour == Sequence::Flavour::kList) {
    for (const std::string_view mutator :
         {"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"})
      if (name == mutator) return refused(object, name);
    if (name == "copy") return make(name, [object](Interpreter&, Arguments&) { return object; });
  } else if (flavour != Sequence::Flavour::kTuple && flavour != Sequence::Flavour::kRange) {
    return std::nullopt;
  }
  if (name == "count" || name == "index")
    return make(name,
                [object, counts = name == "count"](Interpreter& interpreter, Arguments& arguments) {
                  interpreter.charge_for(object);
                  const Bound bound("the method", arguments, {"value"}, 1);
                  const Values& items = object.as_sequence().items;
                  const auto matches = [&](const Value& item) { return equal(item, bound.at(0)); };
                  if (counts)
                    return Value(int64_t{std::count_if(items.begin(), items.end(), matches)});
                  const auto found = std::find_if(items.begin(), items.end(), matches);
                  MNEME_CHECK(found != items.end(), "index: the value is not in the list");
                  return Value(int64_t{found - items.begin()});
                });
  return std::nullopt;
}

}  // namespace

std::optional<Value> container_method(const Value& object, std::string_view name) {
  return object.is_dict() ? dict_method(object, name) : list_method(object, name);
}

}  // namespace mneme::jinja
