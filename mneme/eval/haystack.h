// Seeded filler text: plain English sentences about a small town, made from templates, without
// digits. It is what needles are hidden in (needle.h). Tests: haystack_test.cc.
#pragma once

#include <cstdint>
#include <string>

#include "mneme/core/rng.h"

namespace mneme {

// One sentence, without a blank before or after it.
std::string haystack_sentence(Rng& rng);

// Paragraphs of three to seven sentences until at least `characters` are written; the same for the
// same seed everywhere, and a longer text begins with the shorter one.
std::string haystack_text(int64_t characters, uint64_t seed);

}  // namespace mneme
