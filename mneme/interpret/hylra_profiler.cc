#include "mneme/interpret/hylra_profiler.h"

#include <algorithm>

#include "mneme/cache/paged_memory.h"
#include "mneme/cache/policy/observed.h"
#include "mneme/core/error.h"

namespace mneme {

int64_t HylraStudy::full_layers() const { return std::ranges::count(plan, int64_t{-1}); }

HylraStudy profile_hylra(DecoderModel& model, ThreadPool& pool, const HylraStudyOptions& options,
                         const PrefillProgress& progress) {
  const MemoryShape& shape = model.memory_shape();
  const auto total = std::ssize(options.tokens);
  MNEME_CHECK(options.steps >= 1 && options.steps < total, "hylra profile: expected steps of 1 to ",
              total - 1, " for a text of ", total, " tokens, got ", options.steps);
  HylraStudy study;
  study.layers = shape.layers_that_see_all();
  MNEME_CHECK(!study.layers.empty(), "hylra profile: every layer has a window of its own");
  HylraProfile profile(std::ssize(study.layers), shape.kv_heads, options.profile);

  // Weights of the step under way, summed over the query heads of a KV head: [layers][kv_heads].
  std::vector<std::vector<HylraWeights>> weights(
      study.layers.size(), std::vector<HylraWeights>(static_cast<size_t>(shape.kv_heads)));
  const int64_t ratio = shape.q_heads / shape.kv_heads;
  const auto observe = [&](int64_t layer, int64_t head, std::span<const float> row,
                           const PagedRows&) {
    const auto at = std::ranges::find(study.layers, layer);
    if (at == study.layers.end()) return;
    HylraWeights& sum =
        weights[static_cast<size_t>(at - study.layers.begin())][static_cast<size_t>(head / ratio)];
    if (head % ratio == 0) sum.assign(row.size(), 0.0);
    for (size_t j = 0; j < row.size(); ++j) sum[j] += row[j];
  };
  Session session(
      model, pool,
      std::make_unique<PagedMemory>("observed", RowFormat{.encoding = RowEncoding::kF16},
                                    std::make_unique<Observed>(shape, observe)));
  const auto prompt = static_cast<size_t>(total - options.steps);
  const auto stopped = [&](int64_t done) { return progress && !progress(done, total); };
  session.append(std::span(options.tokens).first(prompt), Session::kDefaultChunk,
                 [&](int64_t done, int64_t) { return !stopped(done); });
  if (session.tokens().size() < prompt) {
    study.complete = false;
    return study;
  }
  for (size_t at = prompt; at < options.tokens.size(); ++at) {
    session.append(std::span(options.tokens).subspan(at, 1));
    profile.add(weights);
    if (stopped(static_cast<int64_t>(at) + 1)) {
      study.complete = false;
      return study;
    }
  }
  study.sensitivity = profile.sensitivity();
  study.sensitive = profile.sensitive_layers();
  study.overlap = profile.least_overlap();
  const std::vector<int64_t> plan = hylra_plan_by_threshold(study.overlap, std::ssize(study.layers),
                                                            options.theta, study.sensitive);
  study.plan.assign(static_cast<size_t>(shape.layers()), -1);
  for (size_t i = 0; i < plan.size(); ++i) {
    if (plan[i] >= 0) {
      study.plan[static_cast<size_t>(study.layers[i])] = study.layers[static_cast<size_t>(plan[i])];
    }
  }
  return study;
}

}  // namespace mneme
