// Conflict heads (PH3, papers/34, arXiv 2402.18154): where a text contradicts what a model knows,
// memory heads push the remembered answer and context heads the written one. Pruning the one side
// makes the model follow the other, without touching its weights.
//
//   LD = logit(memory answer) - logit(context answer) at the last position
//   I(l, h) = mean over examples of LD_clean - LD_patched      (direct path, path_patching.h)
//
// I > 0: the head favours memory; I < 0: the context. The formula and the counts are the definition of
// papers/34 section 3.4, not known to be the authors'. Pruning: HeadEdits (models/head_edits.h).
// Tests: conflict_golden_test.cc, conflict_golden_test.cc.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "mneme/core/head_table.h"
#include "mneme/interpret/path_patching.h"
#include "mneme/io/head_scores.h"
#include "mneme/runtime/session.h"

namespace mneme {

struct ConflictExample {
  std::vector<int32_t> clean;    // a false statement, then the question
  std::vector<int32_t> corrupt;  // as long, supporting neither answer
  int32_t memory_answer = 0;     // the first token of what the model knows
  int32_t context_answer = 0;    // the first token of what the text says
};

enum class PatchKind { kDirectPath, kTotalEffect };

struct ConflictRanking {
  HeadTable importance;  // I, in nats
  HeadScores scores;     // LD_clean - LD_patched of each example
  // Means over the examples of P_clean - P_patched of each answer.
  HeadTable memory_drop, context_drop;
  std::vector<double> clean_difference;                // [examples] LD_clean
  std::vector<HeadTable> memory_drops, context_drops;  // [examples]
};

// Throws Error without examples, where the two prompts of one differ in length, on answers outside
// the vocabulary or equal to each other, and on logits that are not finite. progress(done, total)
// after each example; false stops, and the means are then of those done.
ConflictRanking rank_conflict_heads(DecoderModel& model, ThreadPool& pool,
                                    std::span<const ConflictExample> examples,
                                    PatchKind kind = PatchKind::kDirectPath,
                                    const PrefillProgress& progress = {});

enum class ConflictSide { kMemory, kContext };

struct ConflictSelection {
  int64_t count = 5;
  // Only heads that raise the probability of their own answer and lower that of the other.
  bool opposite_effects = false;
  // Only heads of the upper half of the layers.
  bool upper_half = false;
};

// The `count` heads that favour `side` most, most first, of equal ones the lower (layer, head); fewer
// where fewer favour it. Throws Error when the model has fewer heads than `count`.
std::vector<HeadId> conflict_heads(const ConflictRanking& ranking, ConflictSide side,
                                   const ConflictSelection& selection);

struct ConflictOutcome {
  double mean_difference = 0;                // LD
  double memory_rate = 0, context_rate = 0;  // share of examples whose first token is the answer
};

// Under the hooks that the model has.
ConflictOutcome conflict_outcome(DecoderModel& model, ThreadPool& pool,
                                 std::span<const ConflictExample> examples);

}  // namespace mneme
