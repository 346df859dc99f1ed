// One spec string for many: "cake(budget=$b)" with a sweep "b=0.05,0.1" stands for
// "cake(budget=0.05)" and "cake(budget=0.1)". Several sweeps give every combination of the values
// that a spec uses. Tests: sweep_test.cc.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mneme {

struct Sweep {
  std::string name;  // letter { letter | digit | "_" }
  std::vector<std::string> values;
};

// "name=value,value,...". Throws Error on a bad name, no value, an empty value and one given twice.
Sweep parse_sweep(std::string_view text);

// A spec that came out, and where it came from.
struct SweptSpec {
  std::string spec;    // "cake(budget=0.1)"
  std::string family;  // as it was given: "cake(budget=$b)"
  std::string values;  // those put in, "0.1" or "0.1, q4"; empty: none
};

// Every spec with each "$name" replaced, in the order of the specs, the first sweep changing slowest; a
// spec without "$" stays as it is. Throws Error on two sweeps of one name, a "$name" without a
// sweep, and a sweep that no spec uses.
std::vector<SweptSpec> expand_sweeps(const std::vector<std::string>& specs,
                                     const std::vector<Sweep>& sweeps);

}  // namespace mneme
