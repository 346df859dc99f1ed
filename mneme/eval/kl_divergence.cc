#include "mneme/eval/kl_divergence.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "mneme/core/error.h"
#include "mneme/runtime/prefix_replay.h"
#include "mneme/runtime/sampler.h"

namespace mneme {
namespace {

struct TokenScore {
  double divergence = 0;
  bool agrees = false;
  double reference_nll = 0, tested_nll = 0;  // of the token that follows, where there is one
};

}  // namespace

double KlDivergence::mean() const {
  if (per_token.empty()) return 0;
  return std::accumulate(per_token.begin(), per_token.end(), 0.0) /
         static_cast<double>(per_token.size());
}

double KlDivergence::max() const {
  return per_token.empty() ? 0 : *std::ranges::max_element(per_token);
}

double KlDivergence::quantile(double q) const {
  MNEME_CHECK(q > 0 && q <= 1, "quantile: expected a share above 0 and at most 1, got ", q);
  if (per_token.empty()) return 0;
  std::vector<double> sorted = per_token;
  const auto rank =
      static_cast<int64_t>(std::ceil(q * static_cast<double>(sorted.size()) - 1e-9)) - 1;
  std::nth_element(sorted.begin(), sorted.begin() + rank, sorted.end());
  return sorted[static_cast<size_t>(rank)];
}

KlSummary summarise(const KlDivergence& divergence) {
  return {.tokens = std::ssize(divergence.per_token),
          .mean = divergence.mean(),
          .median = divergence.median(),
          .p99 = divergence.p99(),
          .max = divergence.max(),
          .top1_agreement = divergence.top1_agreement};
}

KlDivergence kl_divergence(DecoderModel& model, ThreadPool& pool, SequenceMemory& reference,
                           SequenceMemory& tested, std::span<const int32_t> tokens, int64_t chunk,
                           const PrefillProgress& progress, const BeforeKlStep& before_step) {
  MNEME_CHECK(!tokens.empty(), "kl_divergence: no tokens");
  MNEME_CHECK(chunk > 0, "kl_divergence: the chunk must be positive, got ", chunk);
  if (tested.capabilities().decodes_apart) chunk = 1;
  const int64_t seen = tested.seen_tokens();
  MNEME_CHECK(reference.length() == seen, "kl_divergence: the memories hold ", reference.length(),
              " and ", seen, " tokens");
  const auto total = static_cast<int64_t>(tokens.size());
  const auto vocabulary = static_cast<size_t>(model.config().vocabulary);
  std::vector<TokenScore> scores(static_cast<size_t>(std::min(chunk, total)));

  KlDivergence result;
  int64_t done = 0, agreeing = 0, followed = 0;
  while (done < total) {
    const int64_t count = std::min(chunk, total - done);
    if (before_step) before_step(done, count);
    const auto part = tokens.subspan(static_cast<size_t>(done), static_cast<size_t>(count));
    const std::array<SequenceStep, 2> steps = {SequenceStep{part, &reference, Logits::kAll},
                                               SequenceStep{part, &tested, Logits::kAll}};
    const std::span<const float> logits = model.forward(steps, pool);
    pool.run(count, [&](int64_t i, int) {
      const auto row = static_cast<size_t>(i);
      const auto p = logits.subspan(row * vocabulary, vocabulary);
      const auto q = logits.subspan((static_cast<size_t>(count) + row) * vocabulary, vocabulary);
      TokenScore& score = scores[row];
      score.divergence = kl_divergence_of(p, q);
      score.agrees = argmax(p) == argmax(q);
      if (done + i + 1 == total) return;
      const int32_t next = tokens[static_cast<size_t>(done + i + 1)];
      score.reference_nll = -log_probability(p, next);
      score.tested_nll = -log_probability(q, next);
    });
    for (int64_t i = 0; i < count; ++i) {
      const TokenScore& score = scores[static_cast<size_t>(i)];
      result.per_token.push_back(score.divergence);
      agreeing += score.agrees;
      if (done + i + 1 == total) continue;
      result.reference_nll += score.reference_nll;
      result.tested_nll += score.tested_nll;
      ++followed;
    }
    done += count;
    if (progress && !progress(done, total)) {
      result.complete = done == total;
      break;
    }
  }
  result.top1_agreement = static_cast<double>(agreeing) / static_cast<double>(done);
  if (followed > 0) {
    result.reference_nll /= static_cast<double>(followed);
    result.tested_nll /= static_cast<double>(followed);
  }
  return result;
}

BeforeKlStep replay_before_steps(DecoderModel& model, ThreadPool& pool, SequenceMemory& tested,
                                 std::span<const int32_t> text, int64_t seen) {
  return [&model, &pool, &tested, text, seen](int64_t done, int64_t count) {
    replay_prefix(model, pool, tested, text.first(static_cast<size_t>(seen + done)), count, 0);
  };
}

}  // namespace mneme
