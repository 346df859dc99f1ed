#include "mneme/core/error.h"
#include "mneme/io/jinja/builtins.h"

namespace mneme::jinja {

Bound::Bound(std::string_view function, Arguments& arguments,
             std::vector<std::string_view> parameters, size_t required)
    : function_(function), parameters_(std::move(parameters)), values_(parameters_.size()) {
  MNEME_CHECK(arguments.positional.size() <= parameters_.size(), function_, " takes at most ",
              parameters_.size(), " arguments, got ", arguments.positional.size());
  for (size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    size_t index = 0;
    while (index < parameters_.size() && parameters_[index] != name) ++index;
    MNEME_CHECK(index < parameters_.size(), function_, " takes no argument named '", name, "'");
    MNEME_CHECK(!values_[index], function_, " got two values for '", name, "'");
    values_[index] = value;
  }
  for (size_t i = 0; i < required; ++i)
    MNEME_CHECK(values_[i], function_, " needs the argument '", parameters_[i], "'");
}

int64_t Bound::integer(size_t index, int64_t fallback) const {
  if (!has(index)) return fallback;
  MNEME_CHECK(at(index).is_integral(), function_, ": '", parameters_[index],
              "' must be an integer, got '", type_name(at(index)), "'");
  return at(index).as_int();
}

bool Bound::boolean(size_t index, bool fallback) const {
  return has(index) ? truthy(at(index)) : fallback;
}

const Text& Bound::text(size_t index) const {
  MNEME_CHECK(at(index).is_text(), function_, ": '", parameters_[index], "' must be a text, got '",
              type_name(at(index)), "'");
  return at(index).as_text();
}

}  // namespace mneme::jinja
