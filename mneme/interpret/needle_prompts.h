// Prompts that ask a model to copy from its context (papers/40 sections 3.1, 3.2): a sentence that no
// model can know is hidden in filler text, and the prompt ends where the model has to repeat it.
//
//   context[0, at), needle, context[at, n), question and the answer's stem     -> the real needle
//
// Tests: needle_prompts_test.cc, retrieval_golden_test.cc (needle*, insert).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "mneme/io/tokenizer.h"

namespace mneme {

// Tokens [first, last) of a prompt.
struct TokenSpan {
  int64_t first = -1, last = -1;

  bool found() const { return first >= 0; }
  int64_t size() const { return last - first; }
  bool operator==(const TokenSpan&) const = default;
};

// The first window of as many tokens as the needle has whose set of tokens holds more than 0.9 of
// the needle's: tokens at the borders may differ from the needle's own. (-1, -1) where there is
// none. Throws Error on an empty needle and one longer than the prompt.
TokenSpan find_needle(std::span<const int32_t> prompt, std::span<const int32_t> needle);

struct Insertion {
  int64_t at = 0;      // the needle goes before this token of the context
  int64_t length = 0;  // tokens of the context that are used
};

// Where a needle of `needle_tokens` goes. The context is cut to context_length - buffer -
// needle_tokens where it is longer; `depth` percent of it, moved back to just behind a period (or
// the start), is the place; 100 is the end. Throws Error on depths outside 0 to 100 and where
// nothing is left.
Insertion plan_insertion(std::span<const int32_t> context, int64_t needle_tokens,
                         int64_t context_length, int64_t buffer, double depth,
                         std::span<const int32_t> periods);

// Every token that ends in a period, increasing.
std::vector<int32_t> period_tokens(const Tokenizer& tokenizer);

struct Needle {
  std::string place;   // made up
  std::string prefix;  // "The hidden treasure of Varnholt is"
  std::string answer;  // " a copper flute wrapped in green silk": the real needle
};

// `count` needles with different places and answers, the same for the same seed; a longer list
// begins with the shorter one. At most kMostNeedles. What `first` needles are left out tells disjoint
// sets apart.
inline constexpr int64_t kMostNeedles = 96;
std::vector<Needle> treasure_needles(int64_t count, uint64_t seed, int64_t first = 0);

struct NeedlePromptOptions {
  std::vector<int64_t> context_lengths = {
      600};                               // tokens; those of `buffer` are left for the question
  std::vector<double> depths = {20, 70};  // percent
  int64_t buffer = 200;
};

struct NeedlePrompt {
  std::vector<int32_t> tokens;
  std::vector<int32_t> needle;  // the real needle's tokens, as they follow the stem
  TokenSpan span;               // of it in the prompt: exactly, else as find_needle() says
  int64_t context_length = 0;
  double depth = 0;
};

// One prompt for each needle, length and depth. `haystack` is the text to hide in, repeated where it
// is short, and begun at another sentence for each needle. Throws Error where a needle is not found
// again in its prompt.
std::vector<NeedlePrompt> needle_prompts(const Tokenizer& tokenizer,
                                         std::span<const Needle> needles,
                                         const std::string& haystack,
                                         const NeedlePromptOptions& options);

}  // namespace mneme
