#include "mneme/eval/sweep.h"

#include <algorithm>
#include <set>

#include "mneme/core/error.h"
#include "mneme/io/quote.h"

namespace mneme {
namespace {

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_name_part(char c) { return is_letter(c) || (c >= '0' && c <= '9') || c == '_'; }

bool is_name(std::string_view text) {
  return !text.empty() && is_letter(text.front()) && std::ranges::all_of(text, is_name_part);
}

// The name that begins at `at`, behind a "$"; empty where there is none.
std::string_view name_at(std::string_view spec, size_t at) {
  if (at >= spec.size() || !is_letter(spec[at])) return {};
  size_t end = at;
  while (end < spec.size() && is_name_part(spec[end])) ++end;
  return spec.substr(at, end - at);
}

std::string names_of(const std::vector<Sweep>& sweeps) {
  std::string names;
  for (const Sweep& sweep : sweeps) names += (names.empty() ? "$" : ", $") + sweep.name;
  return names.empty() ? "there is none" : names;
}

// Indices of the sweeps that `spec` uses.
std::set<size_t> used_by(const std::string& spec, const std::vector<Sweep>& sweeps) {
  std::set<size_t> used;
  for (size_t at = spec.find('$'); at != std::string::npos; at = spec.find('$', at + 1)) {
    const std::string_view name = name_at(spec, at + 1);
    const auto found = std::ranges::find(sweeps, name, &Sweep::name);
    MNEME_CHECK(found != sweeps.end(), "memory ", quote(spec), " uses $", name,
                ", expected the name of a --sweep: ", names_of(sweeps));
    used.insert(static_cast<size_t>(found - sweeps.begin()));
  }
  return used;
}

std::string replaced(const std::string& spec, const Sweep& sweep, const std::string& value) {
  std::string text;
  size_t at = 0;
  for (size_t dollar = spec.find('$'); dollar != std::string::npos;
       dollar = spec.find('$', dollar + 1)) {
    if (name_at(spec, dollar + 1) != sweep.name) continue;
    text += spec.substr(at, dollar - at) + value;
    at = dollar + 1 + sweep.name.size();
  }
  return text + spec.substr(at);
}

}  // namespace

Sweep parse_sweep(std::string_view text) {
  const size_t equals = text.find('=');
  MNEME_CHECK(equals != std::string_view::npos && is_name(text.substr(0, equals)), "sweep ",
              quote(text), ": expected name=value,value,... as b=0.1,0.2");
  Sweep sweep{.name = std::string(text.substr(0, equals))};
  for (size_t at = equals + 1; at <= text.size();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    const std::string value(text.substr(at, comma - at));
    MNEME_CHECK(!value.empty(), "sweep ", quote(text), ": value ", sweep.values.size() + 1,
                " is empty");
    MNEME_CHECK(std::ranges::count(sweep.values, value) == 0, "sweep ", quote(text), ": the value ",
                quote(value), " is given twice");
    MNEME_CHECK(value.find('$') == std::string::npos, "sweep ", quote(text),
                ": a value cannot hold a $");
    sweep.values.push_back(value);
    at = comma + 1;
  }
  return sweep;
}

std::vector<SweptSpec> expand_sweeps(const std::vector<std::string>& specs,
                                     const std::vector<Sweep>& sweeps) {
  std::set<std::string> names;
  for (const Sweep& sweep : sweeps)
    MNEME_CHECK(names.insert(sweep.name).second, "sweep ", sweep.name, ": is given twice");
  std::set<size_t> all_used;
  std::vector<SweptSpec> expanded;
  for (const std::string& spec : specs) {
    std::vector<SweptSpec> of_spec = {{.spec = spec, .family = spec}};
    for (const size_t index : used_by(spec, sweeps)) {
      all_used.insert(index);
      std::vector<SweptSpec> next;
      for (const SweptSpec& partly : of_spec) {
        for (const std::string& value : sweeps[index].values)
          next.push_back({.spec = replaced(partly.spec, sweeps[index], value),
                          .family = spec,
                          .values = partly.values + (partly.values.empty() ? "" : ", ") + value});
      }
      of_spec = std::move(next);
    }
    expanded.insert(expanded.end(), of_spec.begin(), of_spec.end());
  }
  for (size_t i = 0; i < sweeps.size(); ++i)
    MNEME_CHECK(all_used.contains(i), "sweep ", sweeps[i].name, ": no --memory uses $",
                sweeps[i].name);
  return expanded;
}

}  // namespace mneme
