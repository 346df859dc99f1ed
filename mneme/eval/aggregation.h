// Aggregation: a long list of words in random order, of which three come up far more often than any
// other, and the question asks for those, the commonest first. No row of a cache holds the answer: it
// lies in how many there are, so a memory that keeps few rows has to keep a fair sample. After
// the common words extraction of RULER (Hsieh et al. 2024, arXiv 2404.06654, section 3).
//
// Of n words 5/24, 4/24 and 3/24 are the common ones, the other half are drawn from 45. A prompt has the
// number of tokens asked for less those that one more word would need. Tests: aggregation_test.cc.
#pragma once

#include <vector>

#include "mneme/eval/recall.h"

namespace mneme {

// One case for every length, without a depth. Throws Error on lengths that do not hold 24 words.
std::vector<RecallCase> aggregation_cases(const Tokenizer& tokenizer, const RecallOptions& options);

}  // namespace mneme
