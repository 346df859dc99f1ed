#include "mneme/interpret/conflict_heads.h"

#include <algorithm>
#include <cmath>

#include "mneme/cache/memory_registry.h"
#include "mneme/core/error.h"
#include "mneme/runtime/sampler.h"

namespace mneme {
namespace {

void check(const ModelConfig& config, std::span<const ConflictExample> examples) {
  MNEME_CHECK(!examples.empty(), "conflict heads: no examples");
  for (size_t i = 0; i < examples.size(); ++i) {
    const ConflictExample& example = examples[i];
    MNEME_CHECK(!example.clean.empty() && example.clean.size() == example.corrupt.size(),
                "conflict heads: the prompts of example ", i, " must be of one length, got ",
                example.clean.size(), " and ", example.corrupt.size(), " tokens");
    for (const int32_t answer : {example.memory_answer, example.context_answer})
      MNEME_CHECK(answer >= 0 && answer < config.vocabulary, "conflict heads: answer ", answer,
                  " of example ", i, " is not one of ", config.vocabulary, " tokens");
    MNEME_CHECK(example.memory_answer != example.context_answer,
                "conflict heads: both answers of example ", i, " are token ",
                example.memory_answer);
  }
}

// What the logits say about one example.
struct Verdict {
  double difference = 0, memory = 0, context = 0;
};

Verdict verdict(std::span<const float> logits, const ConflictExample& example) {
  double top = -INFINITY;
  for (const float logit : logits) {
    MNEME_CHECK(std::isfinite(logit), "conflict heads: the model's logits are not finite numbers");
    top = std::max(top, double{logit});
  }
  double sum = 0;
  for (const float logit : logits) sum += std::exp(double{logit} - top);
  const double memory = logits[static_cast<size_t>(example.memory_answer)];
  const double context = logits[static_cast<size_t>(example.context_answer)];
  return {memory - context, std::exp(memory - top) / sum, std::exp(context - top) / sum};
}

void add(HeadTable& sum, const HeadTable& one) {
  for (size_t i = 0; i < sum.values().size(); ++i) sum.values()[i] += one.values()[i];
}

}  // namespace

ConflictRanking rank_conflict_heads(DecoderModel& model, ThreadPool& pool,
                                    std::span<const ConflictExample> examples, PatchKind kind,
                                    const PrefillProgress& progress) {
  const ModelConfig& config = model.config();
  check(config, examples);
  const HeadTable zeros(config.layers, config.q_heads);
  ConflictRanking ranking{.importance = zeros, .memory_drop = zeros, .context_drop = zeros};
  for (const ConflictExample& example : examples) {
    const LastPosition clean = record_last_position(model, pool, example.clean);
    const LastPosition corrupt = record_last_position(model, pool, example.corrupt);
    const Verdict before = verdict(clean.logits, example);
    HeadTable importance = zeros, memory = zeros, context = zeros;
    const PatchVisit visit = [&](const HeadId& sender, std::span<const float> logits) {
      const Verdict after = verdict(logits, example);
      importance.at(sender) = before.difference - after.difference;
      memory.at(sender) = before.memory - after.memory;
      context.at(sender) = before.context - after.context;
    };
    if (kind == PatchKind::kDirectPath) {
      patch_direct_paths(model, pool, example.clean.back(), std::ssize(example.clean) - 1, clean,
                         corrupt, visit);
    } else {
      patch_total_effects(model, pool, example.clean, corrupt, visit);
    }
    add(ranking.importance, importance);
    add(ranking.memory_drop, memory);
    add(ranking.context_drop, context);
    ranking.scores.add(importance);
    ranking.clean_difference.push_back(before.difference);
    ranking.memory_drops.push_back(std::move(memory));
    ranking.context_drops.push_back(std::move(context));
    if (progress && !progress(std::ssize(ranking.clean_difference), std::ssize(examples))) break;
  }
  const auto done = static_cast<double>(ranking.clean_difference.size());
  for (HeadTable* table : {&ranking.importance, &ranking.memory_drop, &ranking.context_drop})
    for (double& value : table->values()) value /= done;
  return ranking;
}

std::vector<HeadId> conflict_heads(const ConflictRanking& ranking, ConflictSide side,
                                   const ConflictSelection& selection) {
  const HeadTable& importance = ranking.importance;
  MNEME_CHECK(selection.count >= 0 && selection.count <= std::ssize(importance.values()),
              "conflict heads: expected 0 to ", importance.values().size(), " heads, got ",
              selection.count);
  const bool memory = side == ConflictSide::kMemory;
  HeadTable favour = importance;
  if (!memory)
    for (double& value : favour.values()) value = -value;
  std::vector<HeadId> heads = favour.ranking();
  std::erase_if(heads, [&](const HeadId& head) {
    if (!(favour.at(head) > 0)) return true;
    if (selection.upper_half && head.layer < importance.layers() / 2) return true;
    if (!selection.opposite_effects) return false;
    const double own = (memory ? ranking.memory_drop : ranking.context_drop).at(head);
    const double other = (memory ? ranking.context_drop : ranking.memory_drop).at(head);
    return !(own > 0 && other < 0);
  });
  if (std::ssize(heads) > selection.count) heads.resize(static_cast<size_t>(selection.count));
  return heads;
}

ConflictOutcome conflict_outcome(DecoderModel& model, ThreadPool& pool,
                                 std::span<const ConflictExample> examples) {
  check(model.config(), examples);
  ConflictOutcome outcome;
  for (const ConflictExample& example : examples) {
    Session session(model, pool,
                    MemoryRegistry::builtin().build("full(dtype=f32)", model.memory_shape()));
    session.append(example.clean);
    outcome.mean_difference += verdict(session.logits(), example).difference;
    const int32_t first = argmax(session.logits());
    outcome.memory_rate += first == example.memory_answer;
    outcome.context_rate += first == example.context_answer;
  }
  const auto count = static_cast<double>(examples.size());
  outcome.mean_difference /= count;
  outcome.memory_rate /= count;
  outcome.context_rate /= count;
  return outcome;
}

}  // namespace mneme
