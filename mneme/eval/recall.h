// Recall from a long text: something is written into it and the text ends with a question that the
// model completes. The tasks differ in what is written (needle.h, multikey.h, variable_tracking.h,
// aggregation.h); how a text is put together (recall_text.h) and scored is the same. The score is
// the log-probability of the right answer, teacher-forced, and what greedy decoding gives instead.
// Tests: recall_test.cc.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "mneme/core/thread_pool.h"
#include "mneme/eval/log_probability.h"
#include "mneme/io/tokenizer.h"
#include "mneme/models/decoder.h"
#include "mneme/runtime/session.h"

namespace mneme {

struct RecallOptions {
  std::vector<int64_t> lengths = {1024, 2048, 4096};     // prompt tokens, question included
  std::vector<double> depths = {0, 0.25, 0.5, 0.75, 1};  // of the haystack: 0 its start, 1 its end
  uint64_t seed = 1;
  std::string haystack;  // the text to hide in, repeated when it is short; empty: haystack.h
};

struct RecallCase {
  int64_t length = 0;  // tokens asked for; the prompt has as many or, where said, a few less
  std::optional<double> depth;     // none: the answer lies everywhere
  std::string answer;              // "70461"
  std::vector<std::string> parts;  // of the answer, each of which counts
  std::vector<int32_t> prompt;     // [length]
  std::vector<int32_t> expected;   // the tokens of the answer
};

struct RecallScore {
  int64_t length = 0;
  std::optional<double> depth;
  int64_t prompt_tokens = 0;
  std::string answer;
  std::string greedy;             // what the model answers, as many tokens as the answer has
  std::vector<double> log_probs;  // of each token of the answer, given those before it
  bool exact = false;             // greedy decoding gives the answer
  double found = 0;               // share of the answer's parts that the greedy text has
  double seconds = 0;             // of the prompt
  double decode_rate = 0;         // tokens/s after the prompt; 0: not measured
  int64_t resident_bytes = 0, logical_bytes = 0, peak_bytes = 0;  // after the prompt

  double log_prob() const;            // of the whole answer
  double log_prob_per_token() const;  // mean
};

// Sees a memory that has just read its prompt.
using MemoryVisitor = std::function<void(const SequenceMemory& memory)>;

// Runs one case with an empty memory. Throws Error where the memory refuses. `progress` counts the
// prompt's tokens; when it stops, log_probs is empty.
RecallScore score_recall(DecoderModel& model, ThreadPool& pool, const Tokenizer& tokenizer,
                         const MemoryMaker& make_memory, const RecallCase& recall,
                         int64_t chunk = Session::kChosenChunk,
                         const PrefillProgress& progress = {},
                         const MemoryVisitor& after_prompt = {});

struct RecallSummary {
  int64_t cases = 0;
  double mean_log_prob = 0;  // per token of the answers
  double exact_rate = 0;
  double found_rate = 0;  // mean of `found`
};
RecallSummary summarise(const std::vector<RecallScore>& scores);

}  // namespace mneme
