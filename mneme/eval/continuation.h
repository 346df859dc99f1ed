// How well a model goes on with a real text whose beginning a memory has read: the beginning as one
// prompt, so that a memory that judges prompts lets rows go where it would in use; then the last
// `scored` tokens one by one, teacher-forced, as if they were being decoded.
//
//   perplexity:  exp of the mean of -ln p(token | those before it) over the scored tokens
//   divergence:  KL(reference || tested) after each of them (kl_divergence.h)
//
// perplexity.h is for whole texts: there every token counts and the memory never sees a prompt end.
// Tests: continuation_test.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "mneme/eval/kl_divergence.h"
#include "mneme/eval/recall.h"

namespace mneme {

struct ContinuationScore {
  int64_t prompt_tokens = 0;  // read at once
  int64_t tokens = 0;         // scored
  double mean_nll = 0;        // nats a token
  double standard_error = 0;  // of mean_nll, taking tokens as independent
  std::optional<KlSummary> divergence;
  double prompt_seconds = 0;
  double decode_rate = 0;                                         // tokens/s; 0: not measured
  int64_t resident_bytes = 0, logical_bytes = 0, peak_bytes = 0;  // after the prompt
  bool complete = false;                                          // false: stopped by `progress`
};

struct ContinuationText {
  std::span<const int32_t> tokens;  // beginning-of-text included
  int64_t scored = 256;             // at least 1; at least one token comes before them
  int64_t chunk = Session::kChosenChunk;

  std::span<const int32_t> prompt() const { return tokens.first(tokens.size() - tail().size()); }
  std::span<const int32_t> tail() const { return tokens.last(static_cast<size_t>(scored)); }
};

// Throws Error on a text too short for its scored tokens.
void check_continuation(const ContinuationText& text);

// Both throw Error where the memory refuses; `progress` counts all tokens of the text.
ContinuationScore score_continuation(DecoderModel& model, ThreadPool& pool,
                                     const MemoryMaker& make_memory, const ContinuationText& text,
                                     const PrefillProgress& progress = {},
                                     const MemoryVisitor& after_prompt = {});
// reference: has read text.prompt(); it stays as it is. mean_nll is the tested memory's.
ContinuationScore continuation_divergence(DecoderModel& model, ThreadPool& pool,
                                          const SequenceMemory& reference,
                                          const MemoryMaker& make_memory,
                                          const ContinuationText& text,
                                          const PrefillProgress& progress = {},
                                          const MemoryVisitor& after_prompt = {});

}  // namespace mneme
