// Variable tracking: chains of assignments are hidden in a long text,
//
//   VAR QKD = 40213.   ...   VAR BXA = QKD.   ...   VAR TNE = BXA.
//
// and the question asks which variables hold the first one's value: a memory must have kept every
// link. Chains of other values run through the same text. After the variable tracking of RULER
// (Hsieh et al. 2024, arXiv 2404.06654, section 3).
//
// The first assignment stands at the depth of the case, the others evenly from there to the end.
// The answer names the variables in the order of the chain. A case has exactly the number of prompt
// tokens asked for. Tests: variable_tracking_test.cc.
#pragma once

#include <vector>

#include "mneme/eval/recall.h"

namespace mneme {

struct ChainOptions {
  int64_t chains = 2;  // the one asked for included, 1 to 8
  int64_t hops = 2;    // assignments after the first one, 1 to 8
};

// Every length with every depth. Throws Error as needle_cases() does.
std::vector<RecallCase> variable_tracking_cases(const Tokenizer& tokenizer,
                                                const RecallOptions& options,
                                                const ChainOptions& chain = {});

}  // namespace mneme
