// What pruning conflict heads does to answers that were not ranked by (papers/34 sections 3.5, 5): for
// every count the memory heads, the context heads and random late heads, each with the perplexity of
// a plain text beside it. Tests: conflict_heads_test.cc.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "mneme/interpret/conflict_heads.h"

namespace mneme {

struct PruneOptions {
  std::vector<int64_t> counts = {1, 3, 5, 7, 9, 15};
  int64_t draws = 3;  // of random heads of the upper half of the layers, for each count
  uint64_t seed = 1;
  bool opposite_effects = false, upper_half = false;  // see ConflictSelection
  // Of a plain text under the model's hooks; empty: none is measured.
  std::function<double()> perplexity;
};

struct PruneRow {
  std::optional<ConflictSide> side;  // of the heads; none: random ones
  int64_t count = 0;                 // asked for
  std::vector<HeadId> heads;
  ConflictOutcome outcome;
  double perplexity = 0;
};

struct PruneStudy {
  PruneRow unpruned;
  std::vector<PruneRow> rows;
  bool interrupted = false;
};

// progress(done, total) counts rows; false stops.
PruneStudy study_pruning(DecoderModel& model, ThreadPool& pool,
                         std::span<const ConflictExample> examples, const ConflictRanking& ranking,
                         const PruneOptions& options, const PrefillProgress& progress = {});

// The row of `side` with the best rate of the answer that its pruning is to bring (the other side's),
// of equal ones that with the smallest perplexity, then the fewest heads. Null where no row is of it.
const PruneRow* best_row(const PruneStudy& study, ConflictSide side);

}  // namespace mneme
