// Prompts that contradict what a model knows (papers/34 section 3.2):
//
//   stem(X) + " " + wrong + ". " + stem(X)       stem(X) = "The name of the capital city of X is"
//
// The memory answer is the first token of the fact's own answer, the context answer that of the wrong
// one. The corrupt prompt speaks of another subject and another wrong answer of as many tokens, so
// that it supports neither. Tests: conflict_prompts_test.cc.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mneme/interpret/capitals.h"
#include "mneme/interpret/conflict_heads.h"
#include "mneme/io/tokenizer.h"

namespace mneme {

// The facts whose answer's first token the model gives of its own accord. `stem` has "{}" where the
// subject goes.
std::vector<Fact> known_facts(DecoderModel& model, ThreadPool& pool, const Tokenizer& tokenizer,
                              std::span<const Fact> facts, std::string_view stem,
                              const PrefillProgress& progress = {});

struct ConflictPrompt {
  Fact fact;
  std::string_view wrong;               // what the prompt says instead
  std::string_view other, other_wrong;  // subject and answer of the corrupt prompt
  ConflictExample example;
};

// For each fact of `known`, in a seeded order, as many prompts as asked for, each with another wrong
// answer; fewer where no more corrupt prompts of equal length are to be had. Wrong answers and other
// subjects are drawn from `facts`. Prompts of one fact lie side by side: parts are to be cut between
// facts.
std::vector<ConflictPrompt> conflict_prompts(const Tokenizer& tokenizer,
                                             std::span<const Fact> facts,
                                             std::span<const Fact> known, std::string_view stem,
                                             uint64_t seed, int64_t contradictions = 1);

std::vector<ConflictExample> examples_of(std::span<const ConflictPrompt> prompts);

}  // namespace mneme
