#include "mneme/interpret/retrieval_heads.h"

#include <algorithm>
#include <map>

#include "mneme/cache/paged_memory.h"
#include "mneme/cache/policy/observed.h"
#include "mneme/core/error.h"
#include "mneme/runtime/sampler.h"

namespace mneme {

RetrievalScore::RetrievalScore(int64_t layers, int64_t heads, std::vector<int32_t> prompt,
                               TokenSpan span, int64_t top_k)
    : prompt_(std::move(prompt)), span_(span), top_k_(top_k), score_(layers, heads) {
  MNEME_CHECK(top_k >= 1, "retrieval heads: top_k must be at least 1, got ", top_k);
  MNEME_CHECK(!span.found() || (span.first < span.last && span.last <= std::ssize(prompt_)),
              "retrieval heads: the needle at [", span.first, ", ", span.last,
              ") is not inside a prompt of ", prompt_.size(), " tokens");
  positions_.assign(static_cast<size_t>(layers * heads * top_k), -1);
  hits_.assign(static_cast<size_t>(layers * heads), 0);
  rows_.resize(static_cast<size_t>(top_k));
}

size_t RetrievalScore::index(const HeadId& head) const {
  score_.at(head);
  return static_cast<size_t>(head.layer * score_.heads() + head.head);
}

void RetrievalScore::look(const HeadId& head, std::span<const float> weights,
                          FunctionRef<int64_t(int64_t row)> position_of) {
  const int64_t found = select_top_k(weights, top_k_, SelectOrder::kRank, rows_, scratch_);
  int64_t* const positions = positions_.data() + index(head) * static_cast<size_t>(top_k_);
  for (int64_t k = 0; k < top_k_; ++k)
    positions[k] = k < found ? position_of(rows_[static_cast<size_t>(k)]) : -1;
}

void RetrievalScore::produced(int32_t token) {
  std::ranges::fill(hits_, uint8_t{0});
  if (!span_.found()) return;
  for (size_t i = 0; i < positions_.size(); ++i) {
    const int64_t at = positions_[i];
    if (at < span_.first || at >= span_.last || prompt_[static_cast<size_t>(at)] != token) continue;
    hits_[i / static_cast<size_t>(top_k_)] = 1;
  }
  for (size_t i = 0; i < hits_.size(); ++i)
    score_.values()[i] += hits_[i] / static_cast<double>(span_.size());
}

int64_t RetrievalScore::strongest(const HeadId& head) const {
  return positions_[index(head) * static_cast<size_t>(top_k_)];
}

bool RetrievalScore::hit(const HeadId& head) const { return hits_[index(head)] != 0; }

double unigram_recall(std::span<const int32_t> output, std::span<const int32_t> needle) {
  MNEME_CHECK(!needle.empty(), "recall: the needle has no tokens");
  std::map<int32_t, int64_t> left;
  for (const int32_t token : output) ++left[token];
  int64_t found = 0;
  for (const int32_t token : needle) {
    const auto at = left.find(token);
    if (at != left.end() && at->second-- > 0) ++found;
  }
  return static_cast<double>(found) / static_cast<double>(needle.size());
}

std::unique_ptr<SequenceMemory> observed_memory(const MemoryShape& shape, RetrievalScore& score) {
  const auto observer = [&score](int64_t layer, int64_t head, std::span<const float> weights,
                                 const PagedRows& rows) {
    score.look({layer, head}, weights, [&](int64_t row) { return rows.position(row); });
  };
  return std::make_unique<PagedMemory>("full(dtype=f32)", RowFormat{.encoding = RowEncoding::kF32},
                                       std::make_unique<Observed>(shape, observer));
}

RetrievalRun run_retrieval(DecoderModel& model, ThreadPool& pool, const NeedlePrompt& prompt,
                           const RetrievalOptions& options, std::span<const int32_t> forced,
                           const RetrievalVisit& visit) {
  MNEME_CHECK(options.max_tokens > 0, "retrieval heads: max_tokens must be positive, got ",
              options.max_tokens);
  const std::span<const int32_t> tokens = prompt.tokens;
  MNEME_CHECK(!tokens.empty(), "retrieval heads: a prompt without tokens");
  MNEME_CHECK(prompt.span.found(), "retrieval heads: the needle is not in the prompt");
  const ModelConfig& config = model.config();
  RetrievalScore score(config.layers, config.q_heads, prompt.tokens, prompt.span, options.top_k);
  Session session(model, pool, observed_memory(model.memory_shape(), score));
  session.append(tokens.first(tokens.size() - 1));
  // The step that produces the first token is one of the prompt's last token alone.
  int32_t last = tokens.back();
  RetrievalRun run;
  const int64_t steps = forced.empty() ? options.max_tokens : std::ssize(forced);
  for (int64_t step = 0; step < steps; ++step) {
    session.append({&last, 1});
    last = forced.empty() ? argmax(session.logits()) : forced[static_cast<size_t>(step)];
    if (forced.empty() && options.ends && options.ends(last)) break;
    score.produced(last);
    run.output.push_back(last);
    if (visit) visit(step, session.logits(), score);
  }
  run.score = score.score();
  run.recall = unigram_recall(run.output, prompt.needle);
  run.accepted = run.recall > options.min_recall;
  return run;
}

RetrievalHeads find_retrieval_heads(DecoderModel& model, ThreadPool& pool,
                                    std::span<const NeedlePrompt> prompts,
                                    const RetrievalOptions& options,
                                    const PrefillProgress& progress) {
  MNEME_CHECK(!prompts.empty(), "retrieval heads: no prompts");
  RetrievalHeads found;
  for (const NeedlePrompt& prompt : prompts) {
    found.runs.push_back(run_retrieval(model, pool, prompt, options));
    if (found.runs.back().accepted) {
      found.scores.add(found.runs.back().score);
      ++found.accepted;
    }
    if (progress && !progress(std::ssize(found.runs), std::ssize(prompts))) break;
  }
  found.mean = found.scores.mean(model.config().layers, model.config().q_heads);
  return found;
}

std::vector<HeadId> heads_at_least(const HeadTable& mean, double threshold) {
  std::vector<HeadId> heads = mean.ranking();
  std::erase_if(heads, [&](const HeadId& head) { return mean.at(head) < threshold; });
  return heads;
}

}  // namespace mneme
