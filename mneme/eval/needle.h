// Needle in a haystack: a pass key is written once into a long text, at a chosen depth, and the
// text ends with a question that the model completes (recall.h).
//
//   intro, haystack[0, depth), needle, haystack[depth, 1), question     -> answer (five digits)
//
// A case has exactly the number of prompt tokens asked for. Tests: needle_test.cc.
#pragma once

#include <vector>

#include "mneme/eval/recall.h"

namespace mneme {

// Every length with every depth. Throws Error on lengths too short for intro, needle and question,
// and on depths outside 0 to 1.
std::vector<RecallCase> needle_cases(const Tokenizer& tokenizer, const RecallOptions& options);

}  // namespace mneme
