// The tables of filters and global functions.
#include "mneme/io/jinja/builtins.h"

#include <ctime>
#include <map>

#include "mneme/core/error.h"
#include "mneme/io/jinja/interpreter.h"
#include "mneme/io/jinja/limits.h"

namespace mneme::jinja {
namespace {

using FunctionBody = Value (*)(Interpreter&, Arguments&);

Value range_function(Interpreter&, Arguments& arguments) {
  MNEME_CHECK(
      arguments.named.empty() && !arguments.positional.empty() && arguments.positional.size() <= 3,
      "range takes one to three integers");
  for (const Value& value : arguments.positional) {
    if (value.is_undefined()) fail(value.undefined_message());
    MNEME_CHECK(value.is_integral(), "range needs integers, got '", type_name(value), "'");
  }
  const bool single = arguments.positional.size() == 1;
  Sequence range;
  range.flavour = Sequence::Flavour::kRange;
  range.range_start = single ? 0 : arguments.positional[0].as_int();
  range.range_stop = arguments.positional[single ? 0 : 1].as_int();
  range.range_step = arguments.positional.size() == 3 ? arguments.positional[2].as_int() : 1;
  MNEME_CHECK(range.range_step != 0, "the step of range cannot be zero");
  const __int128 distance = range.range_step > 0 ? __int128{range.range_stop} - range.range_start
                                                 : __int128{range.range_start} - range.range_stop;
  const __int128 width =
      range.range_step > 0 ? __int128{range.range_step} : -__int128{range.range_step};
  const __int128 count = distance <= 0 ? 0 : (distance - 1) / width + 1;
  MNEME_CHECK(count <= kMaxRange, "range has more than ", kMaxRange, " items");
  for (int64_t i = 0; i < static_cast<int64_t>(count); ++i)
    range.items.emplace_back(
        static_cast<int64_t>(range.range_start + __int128{i} * range.range_step));
  return Value::sequence(std::move(range));
}

// The entries of dict(mapping_or_pairs, **named).
std::shared_ptr<Dict> make_dict(Arguments& arguments, std::string_view function) {
  MNEME_CHECK(arguments.positional.size() <= 1, function, " takes at most one positional argument");
  auto dict = std::make_shared<Dict>();
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional[0];
    if (source.is_dict()) {
      for (const auto& [key, value] : source.as_dict().entries()) dict->set(key, value);
    } else {
      const auto iterated = iterate(source);
      for (const Value& pair : *iterated) {
        const auto parts = iterate(pair);
        MNEME_CHECK(parts->size() == 2, function, " needs pairs, got ", parts->size(), " values");
        dict->set((*parts)[0], (*parts)[1]);
      }
    }
  }
  for (const auto& [name, value] : arguments.named) dict->set(Value::text(name), value);
  return dict;
}

Value dict_function(Interpreter&, Arguments& arguments) {
  return Value(std::shared_ptr<const Dict>(make_dict(arguments, "dict")));
}

Value namespace_function(Interpreter& interpreter, Arguments& arguments) {
  const std::shared_ptr<Namespace> result = interpreter.make_namespace();
  const std::shared_ptr<Dict> attributes = make_dict(arguments, "namespace");
  for (const auto& [key, value] : attributes->entries()) {
    const std::string name = to_text(key).bytes();
    MNEME_CHECK(name.empty() || name[0] != '_', "a namespace cannot hold '", name,
                "': names that begin with '_' are refused");
    result->set(name, value);
  }
  return Value(result);
}

Value raise_function(Interpreter&, Arguments& arguments) {
  const Bound bound("raise_exception", arguments, {"message"}, 1);
  fail(to_text(bound.at(0)).bytes());
}

Value strftime_function(Interpreter& interpreter, Arguments& arguments) {
  const Bound bound("strftime_now", arguments, {"format"}, 1);
  const std::string& format = bound.text(0).bytes();
  MNEME_CHECK(format.size() <= 1000, "strftime_now: a format of ", format.size(), " bytes");
  const std::time_t now = interpreter.now_seconds().value_or(std::time(nullptr));
  std::tm parts{};
  const bool fits = interpreter.now_seconds() ? gmtime_r(&now, &parts) : localtime_r(&now, &parts);
  MNEME_CHECK(fits, "strftime_now: ", now, " seconds is no date");
  std::string buffer(200 + 100 * format.size(), '\0');
  buffer.resize(std::strftime(buffer.data(), buffer.size(), format.c_str(), &parts));
  return Value::text(buffer);
}

template <FunctionBody body>
Value make(std::string_view name) {
  auto function = std::make_shared<Function>();
  function->name = std::string(name);
  function->call = body;
  return Value(std::shared_ptr<const Function>(std::move(function)));
}

}  // namespace

Filter find_filter(std::string_view name) {
  static const std::map<std::string_view, Filter> filters = [] {
    std::map<std::string_view, Filter> all;
    for (const auto* table :
         {&text_filters(), &number_filters(), &sequence_filters(), &selection_filters()})
      for (const NamedFilter& entry : *table) all.emplace(entry.name, entry.filter);
    return all;
  }();
  const auto found = filters.find(name);
  return found == filters.end() ? nullptr : found->second;
}

const Value* find_global(std::string_view name) {
  static const std::map<std::string_view, Value> globals = {
      {"range", make<range_function>("range")},
      {"dict", make<dict_function>("dict")},
      {"namespace", make<namespace_function>("namespace")},
      {"raise_exception", make<raise_function>("raise_exception")},
      {"strftime_now", make<strftime_function>("strftime_now")},
  };
  const auto found = globals.find(name);
  return found == globals.end() ? nullptr : &found->second;
}

}  // namespace mneme::jinja
