#include "mneme/interpret/prune_study.h"

#include <algorithm>
#include <tuple>

#include "mneme/core/error.h"
#include "mneme/models/head_edits.h"

namespace mneme {
namespace {

double wanted_rate(const PruneRow& row) {
  return row.side == ConflictSide::kMemory ? row.outcome.context_rate : row.outcome.memory_rate;
}

// Heads of the upper half of the layers that no row prunes on purpose.
std::vector<HeadId> late_heads(const HeadTable& table, const std::vector<PruneRow>& rows) {
  std::vector<HeadId> late;
  for (int64_t i = table.layers() / 2 * table.heads(); i < std::ssize(table.values()); ++i) {
    const HeadId head = table.id(i);
    const bool taken = std::ranges::any_of(rows, [&](const PruneRow& row) {
      return std::ranges::find(row.heads, head) != row.heads.end();
    });
    if (!taken) late.push_back(head);
  }
  return late;
}

}  // namespace

PruneStudy study_pruning(DecoderModel& model, ThreadPool& pool,
                         std::span<const ConflictExample> examples, const ConflictRanking& ranking,
                         const PruneOptions& options, const PrefillProgress& progress) {
  MNEME_CHECK(options.draws >= 0, "prune study: draws must not be negative, got ", options.draws);
  PruneStudy study;
  for (const ConflictSide side : {ConflictSide::kMemory, ConflictSide::kContext}) {
    for (const int64_t count : options.counts) {
      MNEME_CHECK(count > 0, "prune study: counts must be positive, got ", count);
      study.rows.push_back({.side = side,
                            .count = count,
                            .heads = conflict_heads(ranking, side,
                                                    {.count = count,
                                                     .opposite_effects = options.opposite_effects,
                                                     .upper_half = options.upper_half})});
    }
  }
  const std::vector<HeadId> late = late_heads(ranking.importance, study.rows);
  Rng rng(options.seed);
  for (const int64_t count : options.counts)
    for (int64_t draw = 0; draw < options.draws; ++draw)
      study.rows.push_back({.count = count, .heads = random_heads(late, 0, count, rng)});

  HeadEdits edits(model.config());
  const ScopedHeadHooks hooks(model, &edits);
  const int64_t total = std::ssize(study.rows) + 1;
  int64_t done = 0;
  const auto measure = [&](PruneRow& row) {
    edits.clear();
    edits.prune(row.heads);
    row.outcome = conflict_outcome(model, pool, examples);
    if (options.perplexity) row.perplexity = options.perplexity();
    return !progress || progress(++done, total);
  };
  bool on = measure(study.unpruned);
  size_t measured = 0;
  while (on && measured < study.rows.size()) on = measure(study.rows[measured++]);
  study.interrupted = measured < study.rows.size();
  study.rows.resize(measured);
  return study;
}

const PruneRow* best_row(const PruneStudy& study, ConflictSide side) {
  const PruneRow* best = nullptr;
  const auto worth = [](const PruneRow& row) {
    return std::tuple(wanted_rate(row), -row.perplexity, -row.count);
  };
  for (const PruneRow& row : study.rows) {
    if (row.side == side && (best == nullptr || worth(row) > worth(*best))) best = &row;
  }
  return best;
}

}  // namespace mneme
