// Kept tokens (kept_tokens.h) for a report page: a heat map, and the text itself with a background the
// stronger the more heads hold a token. Both come in eight strengths and need kKeptStyle on the page.
// Tests: kept_tokens_html_test.cc.
#pragma once

#include <span>
#include <string>

#include "mneme/eval/kept_tokens.h"
#include "mneme/eval/svg_chart.h"
#include "mneme/io/tokenizer.h"

namespace mneme {

extern const char* const kKeptStyle;

// Layers from the top and in each its KV heads, positions of the text from the left. Drawn for a width
// of about 380 CSS pixels.
std::string kept_map_chart(const ChartText& text, const KeptTokens& kept);

// How much is held: of all rows, and of the layers with the least and the most.
std::string kept_summary(const KeptTokens& kept);

// `tokens` are those of the text that `kept` is about. Throws Error where there are more or fewer.
std::string kept_text_html(const Tokenizer& tokenizer, std::span<const int32_t> tokens,
                           const KeptTokens& kept);

// 0 nothing, 8 everything; at least 1 where there is something.
int kept_level(double share);

}  // namespace mneme
