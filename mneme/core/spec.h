// Spec strings: one line that names a memory and its parameters, the same in the command line, the
// library, a test and a report.
//
//   spec  = term { "+" term }                 cake(budget=0.2)+q8
//   term  = name [ "(" [ arg { "," arg } ] ")" ]
//   arg   = key "=" value                     window=512
//   name  = letter { letter | digit | "-" | "_" }
//   value = run of characters other than , ( ) + = and blanks
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace mneme {

struct SpecArgument {
  std::string key;
  std::string value;
  int64_t position = 0;  // of the key, in characters from the start of the spec
};

struct SpecTerm {
  std::string name;
  std::vector<SpecArgument> arguments;
  int64_t position = 0;  // of the name

  const SpecArgument* find(std::string_view key) const;
};

struct Spec {
  std::string text;             // as given
  std::vector<SpecTerm> terms;  // never empty
};

// Throws Error with the position, a caret line and what was expected there. At most 4,096
// characters.
Spec parse_spec(std::string_view text);

// The canonical spelling: no blanks, arguments in the order given. parse_spec(spec_text(s)) == s.
std::string spec_text(const std::vector<SpecTerm>& terms);

// Error text for character `position` of `text`: the message, the line, a caret below it.
std::string spec_error(std::string_view text, int64_t position, std::string_view message);

// The candidate with the smallest edit distance to `name`, or empty when none is near (more than
// half of it differs).
std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace mneme
