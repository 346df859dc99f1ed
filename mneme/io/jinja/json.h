// JSON text to values and back. Reading marks every text as input, keeps the order of keys and
// bounds the nesting; writing is Python's json.dumps(ensure_ascii=False, indent, separators,
// sort_keys), which is what transformers gives templates as `tojson`. Tests:
// chat_template_oracle_test.cc.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "mneme/io/jinja/value.h"

namespace mneme::jinja {

// Throws Error naming `what` ("tools") and the position of the fault.
Value parse_json(std::string_view json, std::string_view what);

struct JsonStyle {
  std::optional<Text> indent;  // one level; nothing: all on one line
  Text item_separator = Text(", ");
  Text key_separator = Text(": ");
  bool ascii = false;
  bool sort_keys = false;
};
// Throws Error for what JSON cannot say ("Object of type Undefined is not JSON serializable").
Text to_json(const Value& value, const JsonStyle& style);

}  // namespace mneme::jinja
