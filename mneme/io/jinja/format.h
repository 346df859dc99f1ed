// Python's two text formatters: "%s" % values, and "{}".format(values). Supported conversions: s r
// d i u f F e E g G x X o c % with flags, width and precision; replacement fields by position or
// name, attributes and items, !s and !r, and format specs of texts and numbers. Tests:
// chat_template_oracle_test.cc.
#pragma once

#include "mneme/io/jinja/value.h"

namespace mneme::jinja {

// pattern % value: a tuple fills several conversions, a dictionary the named ones.
Text format_percent(const Text& pattern, const Value& value);
// pattern.format(*positional, **named)
Text format_braces(const Text& pattern, const Arguments& arguments);

}  // namespace mneme::jinja
