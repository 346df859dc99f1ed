#include "mneme/interpret/mask_study.h"

#include <algorithm>

#include "mneme/cache/memory_registry.h"
#include "mneme/core/error.h"
#include "mneme/models/head_edits.h"
#include "mneme/runtime/sampler.h"

namespace mneme {
namespace {

constexpr int64_t kMostSpared = 60;

// The recall of a greedy answer, given a session that has everything but the prompt's last token.
double recall_of(Session session, const NeedlePrompt& prompt, const RetrievalOptions& options) {
  std::vector<int32_t> output;
  int32_t last = prompt.tokens.back();
  while (std::ssize(output) < options.max_tokens) {
    session.append({&last, 1});
    last = argmax(session.logits());
    if (options.ends && options.ends(last)) break;
    output.push_back(last);
  }
  return unigram_recall(output, prompt.needle);
}

}  // namespace

MaskStudy study_masks(DecoderModel& model, ThreadPool& pool, std::span<const NeedlePrompt> prompts,
                      const HeadTable& mean, const MaskOptions& options,
                      const PrefillProgress& progress) {
  const ModelConfig& config = model.config();
  MNEME_CHECK(!prompts.empty(), "mask study: no prompts");
  MNEME_CHECK(mean.layers() == config.layers && mean.heads() == config.q_heads,
              "mask study: a ranking of ", mean.layers(), " x ", mean.heads(),
              " heads for a model of ", config.layers, " x ", config.q_heads);
  const std::vector<HeadId> ranking = mean.ranking();
  const int64_t total = std::ssize(ranking);
  const int64_t spared = options.spared > 0 ? options.spared : std::min(kMostSpared, total / 4);
  MaskStudy study;
  Rng rng(options.seed);
  for (const int64_t count : options.counts) {
    MNEME_CHECK(count > 0 && count <= total, "mask study: expected 1 to ", total, " heads, got ",
                count);
    study.rows.push_back({.heads = {ranking.begin(), ranking.begin() + count}});
    for (int64_t draw = 0; draw < options.draws; ++draw)
      study.rows.push_back(
          {.random = true, .heads = random_heads(ranking, std::max(spared, count), count, rng)});
  }

  for (const NeedlePrompt& prompt : prompts) {
    MNEME_CHECK(!prompt.tokens.empty(), "mask study: a prompt without tokens");
    const std::span<const int32_t> context(prompt.tokens.data(), prompt.tokens.size() - 1);
    const auto read = [&] {
      Session session(model, pool,
                      MemoryRegistry::builtin().build("full(dtype=f32)", model.memory_shape()));
      session.append(context);
      return session;
    };
    const Session plain = read();
    study.unmasked_recall += recall_of(plain.fork(), prompt, options.retrieval);
    HeadEdits edits(config);
    for (MaskRow& row : study.rows) {
      const ScopedHeadHooks hooks(model, &edits);
      edits.clear();
      if (options.mode == HeadMask::kZero) {
        edits.prune(row.heads);
      } else {
        edits.make_uniform(row.heads);
      }
      const bool in_prompt = options.mode != HeadMask::kUniformDecode;
      row.recall += recall_of(in_prompt ? read() : plain.fork(), prompt, options.retrieval);
    }
    ++study.prompts;
    if (progress && !progress(study.prompts, std::ssize(prompts))) break;
  }
  const auto done = static_cast<double>(study.prompts);
  study.unmasked_recall /= done;
  for (MaskRow& row : study.rows) row.recall /= done;
  return study;
}

}  // namespace mneme
