// Perplexity of a text under a memory: exp of the mean negative log-likelihood of its tokens.
//
// The text is read in windows of `window` tokens, `stride` apart, each beginning with an empty
// memory; a token counts once, in the first window that holds it, so it has at least window -
// stride tokens of context (but for the first window). window 0 is one pass over the whole text
// with one memory: that is what shows how a memory does at long context.
// Tests: perplexity_test.cc (naive twin, uniform model, windows by hand).
#pragma once

#include <cstdint>
#include <span>

#include "mneme/core/thread_pool.h"
#include "mneme/eval/log_probability.h"
#include "mneme/models/decoder.h"
#include "mneme/runtime/session.h"

namespace mneme {

struct PerplexityOptions {
  int64_t window = 0;  // tokens a window holds, `begin` included; 0: the whole text
  // Tokens from one window to the next, at most window - 1 (unused in one pass).
  int64_t stride = 256;
  int64_t chunk = 64;  // rows of logits held at once
  int32_t begin = -1;  // token put before every window, the model's beginning-of-text; -1: none
};

struct PerplexityResult {
  int64_t tokens = 0;         // scored
  double mean_nll = 0;        // nats a token
  double standard_error = 0;  // of mean_nll, taking tokens as independent
  double seconds = 0;
  bool complete = true;                                           // false: stopped by `progress`
  int64_t resident_bytes = 0, logical_bytes = 0, peak_bytes = 0;  // of the last window's memory

  double perplexity() const;
  // Of perplexity(), to first order.
  double perplexity_error() const { return perplexity() * standard_error; }
};

// `tokens` is the text without `begin`. Throws Error on options that cannot be, on a text without a
// token to score, and where the memory refuses. `progress` is called with the tokens run and the
// total after each chunk.
PerplexityResult perplexity(DecoderModel& model, ThreadPool& pool, const MemoryMaker& make_memory,
                            std::span<const int32_t> tokens, const PerplexityOptions& options = {},
                            const PrefillProgress& progress = {});

}  // namespace mneme
