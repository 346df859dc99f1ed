// Needle among needles: as many pass keys as asked are hidden in one text, each with the name of
// what it opens, and the question asks for one of them. What a memory needs is not only to have kept a
// key but to have kept the right one. After the multi-key needles of RULER (Hsieh et al. 2024, arXiv
// 2404.06654, table 2).
//
// The key asked for stands at the depth of the case, the others evenly over the text. A case has
// exactly the number of prompt tokens asked for. Tests: multikey_test.cc.
#pragma once

#include <vector>

#include "mneme/eval/recall.h"

namespace mneme {

// Every length with every depth, `keys` (2 to 16) in each. Throws Error as needle_cases() does.
std::vector<RecallCase> multikey_cases(const Tokenizer& tokenizer, const RecallOptions& options,
                                       int64_t keys = 6);

}  // namespace mneme
