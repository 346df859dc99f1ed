// Generating text: prompt in, pieces out as they come, until a stop. Tests: generate_test.cc.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "mneme/io/tokenizer.h"
#include "mneme/runtime/sampler.h"
#include "mneme/runtime/session.h"

namespace mneme {

struct GenerateOptions {
  int64_t max_tokens = 256;       // >= 0
  std::vector<std::string> stop;  // none empty; the text ends before the first that appears
  bool ignore_end = false;        // go on past the model's end-of-text tokens
  SamplerOptions sampler;
  int64_t chunk = Session::kChosenChunk;
};

enum class StopReason { kEnd, kStopString, kLength, kCancelled };
std::string_view stop_reason_name(StopReason reason);  // "end", "stop", "length", "cancelled"

struct Generation {
  std::string text;
  std::vector<int32_t> tokens;  // generated ones, the ending token excluded
  StopReason stop = StopReason::kLength;
  int64_t prompt_tokens = 0;
  int64_t reused_tokens = 0;  // of the prompt: already in the session's memory
  double prefill_seconds = 0;
  double decode_seconds = 0;
  // Tokens a second; 0 where nothing was run.
  double prefill_rate() const;
  double decode_rate() const;
};

// Called with each piece of text, whole UTF-8 characters only, never part of a stop string; false
// cancels.
using TextSink = std::function<bool(std::string_view text)>;

// Advances `session` to `prompt` and generates after it. A cancelled or failed generation leaves
// the session consistent: it holds the tokens that were run. Throws Error on bad options or a
// refused step in the prompt; a memory that refuses while generating ends with kLength.
Generation generate(Session& session, const Tokenizer& tokenizer, std::span<const int32_t> prompt,
                    const GenerateOptions& options, const TextSink& sink = {},
                    const PrefillProgress& progress = {});

}  // namespace mneme
