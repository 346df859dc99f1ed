// Needle in a haystack: a pass key is written once into a long text, at a chosen depth, and the
// text ends with a question that the model completes. The score is the log-probability of the right
// answer, teacher-forced, and whether greedy decoding gives it exactly.
//
//   intro, haystack[0, depth), needle, haystack[depth, 1), question     -> answer (five digits)
//
// A case has exactly the number of prompt tokens asked for; its prompt is run once.
// Tests: needle_test.cc.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mneme/core/thread_pool.h"
#include "mneme/eval/log_probability.h"
#include "mneme/io/tokenizer.h"
#include "mneme/models/decoder.h"
#include "mneme/runtime/session.h"

namespace mneme {

struct NeedleOptions {
  std::vector<int64_t> lengths = {1024, 2048, 4096};     // prompt tokens, question included
  std::vector<double> depths = {0, 0.25, 0.5, 0.75, 1};  // of the haystack: 0 its start, 1 its end
  uint64_t seed = 1;
  std::string haystack;  // the text to hide in, repeated when it is short; empty: haystack.h
  int64_t chunk = Session::kChosenChunk;
};

struct NeedleCase {
  int64_t length = 0;
  double depth = 0;
  std::string answer;             // "70461"
  std::vector<int32_t> prompt;    // [length]
  std::vector<int32_t> expected;  // the tokens of the answer
};

struct NeedleScore {
  int64_t length = 0;
  double depth = 0;
  std::string answer;
  std::string greedy;             // what the model answers, as many tokens as the answer has
  std::vector<double> log_probs;  // of each token of the answer, given those before it
  bool exact = false;             // greedy decoding gives the answer
  double seconds = 0;             // of the prompt
  int64_t resident_bytes = 0, logical_bytes = 0, peak_bytes = 0;  // after the prompt

  double log_prob() const;            // of the whole answer
  double log_prob_per_token() const;  // mean
};

// Every length with every depth. Throws Error on lengths too short for intro, needle and question,
// and on depths outside 0 to 1.
std::vector<NeedleCase> needle_cases(const Tokenizer& tokenizer, const NeedleOptions& options);

// Runs one case with an empty memory. Throws Error where the memory refuses. `progress` counts the
// prompt's tokens; when it stops, log_probs is empty.
NeedleScore score_needle(DecoderModel& model, ThreadPool& pool, const Tokenizer& tokenizer,
                         const MemoryMaker& make_memory, const NeedleCase& needle,
                         int64_t chunk = Session::kChosenChunk,
                         const PrefillProgress& progress = {});

struct NeedleSummary {
  int64_t cases = 0;
  double mean_log_prob = 0;  // per token of the answers
  double exact_rate = 0;
};
NeedleSummary summarise(const std::vector<NeedleScore>& scores);

}  // namespace mneme
