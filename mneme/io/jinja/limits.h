// What one template may cost. A template comes with a model file and is not trusted: every loop,
// text and recursion is charged against these bounds, and passing one ends the rendering with
// Error. Tests: chat_template_test.cc, jinja_fuzz.cc.
#pragma once

#include <cstdint>

namespace mneme::jinja {

// Rendered text, and any single text on the way there.
inline constexpr int64_t kMaxTextBytes = 10'000'000;
// Template source.
inline constexpr int64_t kMaxSourceBytes = 2'000'000;
// Evaluated nodes, iterated items, and one for every 16 bytes of text made.
inline constexpr int64_t kMaxSteps = 5'000'000;
// Items of one list or dictionary.
inline constexpr int64_t kMaxItems = 200'000;
// Items of range(), as jinja2's sandbox has it.
inline constexpr int64_t kMaxRange = 100'000;
// Nesting of expressions and blocks in the source, which is also the height of the syntax tree: the
// parser, the evaluator and the destructors recurse no deeper.
inline constexpr int kMaxSyntaxDepth = 200;
// Values inside one list or dictionary and one for every 64 bytes of text, counted through all
// nesting, shared parts each time.
inline constexpr int64_t kMaxWeight = 2'000'000;
// Nesting of lists and dictionaries inside each other.
inline constexpr int kMaxValueDepth = 100;
// Nodes being evaluated at once, through every macro on the way.
inline constexpr int kMaxEvaluationDepth = 1000;

}  // namespace mneme::jinja
