#include "mneme/cache/memory_registry.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "mneme/cache/paged_memory.h"
#include "mneme/cache/policy/keep_all.h"
#include "mneme/core/error.h"

namespace mneme {
namespace {

std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

// Whole-string numbers only, whatever the locale.
template <typename Number>
std::optional<Number> number_from(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// What is wrong with `value` as this parameter, or empty.
std::string fault_of(const ParameterInfo& parameter, const std::string& value) {
  if (parameter.type == ParameterInfo::Type::kText) return "";
  if (parameter.type == ParameterInfo::Type::kChoice) {
    if (std::ranges::find(parameter.choices, value) != parameter.choices.end()) return "";
    return concat("'", parameter.name, "' must be one of ", join(parameter.choices), "; got '",
                  value, "'");
  }
  const bool integer = parameter.type == ParameterInfo::Type::kInteger;
  std::optional<double> number;
  if (integer) {
    if (const auto whole = number_from<int64_t>(value)) number = static_cast<double>(*whole);
  } else {
    number = number_from<double>(value);
  }
  if (number && std::isfinite(*number) && *number >= parameter.min && *number <= parameter.max)
    return "";
  return concat("'", parameter.name, "' must be ", integer ? "an integer" : "a number", " from ",
                parameter.min, " to ", parameter.max, ", got '", value, "'");
}

}  // namespace

ParameterInfo ParameterInfo::integer(std::string name, std::string fallback, double min, double max,
                                     std::string help) {
  return {.name = std::move(name),
          .fallback = std::move(fallback),
          .min = min,
          .max = max,
          .help = std::move(help)};
}

ParameterInfo ParameterInfo::real(std::string name, std::string fallback, double min, double max,
                                  std::string help) {
  ParameterInfo info = integer(std::move(name), std::move(fallback), min, max, std::move(help));
  info.type = Type::kReal;
  return info;
}

ParameterInfo ParameterInfo::choice(std::string name, std::string fallback,
                                    std::vector<std::string> choices, std::string help) {
  return {.name = std::move(name),
          .type = Type::kChoice,
          .fallback = std::move(fallback),
          .choices = std::move(choices),
          .help = std::move(help)};
}

ParameterInfo ParameterInfo::text(std::string name, std::string fallback, std::string help) {
  return {.name = std::move(name),
          .type = Type::kText,
          .fallback = std::move(fallback),
          .help = std::move(help)};
}

const std::string& Parameters::value(std::string_view name) const {
  const auto found = std::ranges::find(values_, name, &std::pair<std::string, std::string>::first);
  MNEME_ASSERT(found != values_.end());
  return found->second;
}

int64_t Parameters::integer(std::string_view name) const {
  return *number_from<int64_t>(value(name));
}
double Parameters::real(std::string_view name) const { return *number_from<double>(value(name)); }
const std::string& Parameters::choice(std::string_view name) const { return value(name); }
const std::string& Parameters::text(std::string_view name) const { return value(name); }

void MemoryRegistry::add(MemoryEntry entry) {
  MNEME_CHECK(std::ranges::find(entries_, entry.name, &MemoryEntry::name) == entries_.end(),
              "memory registry: '", entry.name, "' is there already");
  for (const ParameterInfo& parameter : entry.parameters) {
    const std::string fault = fault_of(parameter, parameter.fallback);
    MNEME_CHECK(fault.empty(), "memory registry: default of ", entry.name, ": ", fault);
  }
  entries_.push_back(std::move(entry));
}

std::vector<std::string> MemoryRegistry::names() const {
  std::vector<std::string> names;
  for (const MemoryEntry& entry : entries_) names.push_back(entry.name);
  return names;
}

const MemoryEntry& MemoryRegistry::entry(std::string_view name) const {
  const auto found = std::ranges::find(entries_, name, &MemoryEntry::name);
  if (found != entries_.end()) return *found;
  const std::string near = nearest_name(name, names());
  fail("no memory is called '", name, "'", near.empty() ? "" : "; did you mean '" + near + "'?",
       " Known: ", join(names()));
}

const MemoryEntry& MemoryRegistry::entry_at(const Spec& spec, const SpecTerm& term) const {
  try {
    return entry(term.name);
  } catch (const Error& error) {
    throw Error(spec_error(spec.text, term.position, error.what()));
  }
}

Parameters MemoryRegistry::check_arguments(const Spec& spec, const SpecTerm& term,
                                           const MemoryEntry& entry) const {
  std::vector<std::string> known;
  for (const ParameterInfo& parameter : entry.parameters) known.push_back(parameter.name);
  for (const SpecArgument& argument : term.arguments) {
    const auto parameter = std::ranges::find(entry.parameters, argument.key, &ParameterInfo::name);
    if (parameter == entry.parameters.end()) {
      const std::string near = nearest_name(argument.key, known);
      throw Error(spec_error(spec.text, argument.position,
                             concat("'", entry.name, "' has no parameter '", argument.key, "'",
                                    near.empty() ? "" : "; did you mean '" + near + "'?",
                                    " It takes: ", known.empty() ? "none" : join(known))));
    }
    const std::string fault = fault_of(*parameter, argument.value);
    if (!fault.empty()) throw Error(spec_error(spec.text, argument.position, fault));
  }
  Parameters parameters;
  for (const ParameterInfo& parameter : entry.parameters) {
    const SpecArgument* given = term.find(parameter.name);
    parameters.values_.emplace_back(parameter.name,
                                    given != nullptr ? given->value : parameter.fallback);
  }
  return parameters;
}

std::unique_ptr<SequenceMemory> MemoryRegistry::build(std::string_view text,
                                                      const MemoryShape& shape) const {
  const Spec spec = parse_spec(text);
  MemoryParts parts;
  std::vector<std::string> kinds;
  for (const SpecTerm& term : spec.terms) {
    const MemoryEntry& entry = entry_at(spec, term);
    if (std::ranges::find(kinds, entry.kind) != kinds.end()) {
      throw Error(
          spec_error(spec.text, term.position,
                     concat("a second ", entry.kind, " ('", entry.name, "'); a memory takes one")));
    }
    kinds.push_back(entry.kind);
    entry.apply(check_arguments(spec, term, entry), parts);
    if (parts.whole && (parts.policy || parts.filter || parts.rerotate)) {
      throw Error(spec_error(spec.text, term.position,
                             concat("a ", kinds[kinds.size() - 2], " and a ", kinds.back(), " ('",
                                    entry.name, "'); they cannot be joined")));
    }
  }
  if (parts.whole)
    return parts.whole(canonical(text), shape, parts.format ? &*parts.format : nullptr);
  const RowFormat format = parts.format.value_or(RowFormat{});
  auto policy = parts.policy ? parts.policy(shape) : std::make_unique<KeepAll>(shape);
  return std::make_unique<PagedMemory>(
      canonical(text), format, std::move(policy), parts.rotate_keys,
      parts.filter ? parts.filter(shape) : nullptr, parts.rerotate);
}

std::string MemoryRegistry::canonical(std::string_view text) const {
  const Spec spec = parse_spec(text);
  std::vector<SpecTerm> terms;
  for (const SpecTerm& term : spec.terms) {
    const MemoryEntry& entry = entry_at(spec, term);
    SpecTerm full{.name = entry.name};
    for (const auto& [key, value] : check_arguments(spec, term, entry).values_)
      full.arguments.push_back({key, value, 0});
    terms.push_back(std::move(full));
  }
  return spec_text(terms);
}

}  // namespace mneme
