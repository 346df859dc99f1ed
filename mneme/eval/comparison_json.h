// A comparison as JSON: an array with one object a memory. Keys are a contract:
//   text, tokens, prompt_tokens, reused_tokens, prefill_tokens_per_s, decode_tokens_per_s, seconds,
//   memory {spec, resident_bytes, logical_bytes, peak_bytes}, quality {...} or null,
//   speed [{context, prefill_tokens_per_s, decode_tokens_per_s}], and error where there was one.
// Rates that were not measured are 0. Tests: comparison_json_test.cc.
#pragma once

#include <string>

#include "mneme/eval/comparison.h"

namespace mneme {

// Never fails on text that is not UTF-8: bad bytes become U+FFFD.
std::string comparison_json(const Comparison& comparison);

}  // namespace mneme
