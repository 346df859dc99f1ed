// Retrieval heads (papers/40, arXiv 2404.15574): heads that copy from the context. While a model
// repeats a hidden sentence, a head scores each time its strongest attention lies on the very token
// that is being produced:
//
//   score(l, h) += 1 / |needle|   iff   first <= i* < last and prompt[i*] == y_t,
//   i* = the position with the largest weight in the step that produced y_t (or any of k such)
//
// Weights come from a memory that tells those of single queries (cache/policy/observed.h): nothing
// of size prompt^2 is made. Tests: retrieval_heads_test.cc, retrieval_golden_test.cc.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "mneme/core/function_ref.h"
#include "mneme/core/head_table.h"
#include "mneme/interpret/needle_prompts.h"
#include "mneme/io/head_scores.h"
#include "mneme/kernels/select.h"
#include "mneme/runtime/session.h"

namespace mneme {

// Counts the hits of one run.
class RetrievalScore {
 public:
  // A span that was not found gives no hits. Throws Error on spans outside the prompt and top_k < 1.
  RetrievalScore(int64_t layers, int64_t heads, std::vector<int32_t> prompt, TokenSpan span,
                 int64_t top_k = 1);

  // The weights of a head in the step under way, of rows at the positions that `position_of` tells.
  void look(const HeadId& head, std::span<const float> weights,
            FunctionRef<int64_t(int64_t row)> position_of);
  // What that step produced.
  void produced(int32_t token);

  const HeadTable& score() const { return score_; }
  // Of the last step: the position of the largest weight (-1: not looked at), and whether the
  // head hit.
  int64_t strongest(const HeadId& head) const;
  bool hit(const HeadId& head) const;

 private:
  size_t index(const HeadId& head) const;

  std::vector<int32_t> prompt_;
  TokenSpan span_;
  int64_t top_k_;
  HeadTable score_;
  std::vector<int64_t> positions_;  // [layers, heads, top_k] -1: none
  std::vector<uint8_t> hits_;       // [layers, heads]
  std::vector<int32_t> rows_;       // [top_k]
  SelectScratch scratch_;
};

// Unigram recall with clipped counts over token ids: the share of the needle's tokens that are in
// the output. Throws Error on an empty needle.
double unigram_recall(std::span<const int32_t> output, std::span<const int32_t> needle);

struct RetrievalOptions {
  int64_t top_k = 1;
  int64_t max_tokens = 50;
  double min_recall = 0.5;  // a run with more than that counts
  std::function<bool(int32_t token)>
      ends;  // ends an answer, and is not part of it; empty: none does
};

struct RetrievalRun {
  HeadTable score;
  std::vector<int32_t> output;
  double recall = 0;
  bool accepted = false;
};

// A memory for `score`, empty.
std::unique_ptr<SequenceMemory> observed_memory(const MemoryShape& shape, RetrievalScore& score);

// Answers one prompt greedily and scores it. `forced`, where not empty, are the tokens that count as
// produced instead of the model's own; visit(step, logits) sees what each was chosen from.
using RetrievalVisit =
    std::function<void(int64_t step, std::span<const float> logits, const RetrievalScore& score)>;
RetrievalRun run_retrieval(DecoderModel& model, ThreadPool& pool, const NeedlePrompt& prompt,
                           const RetrievalOptions& options, std::span<const int32_t> forced = {},
                           const RetrievalVisit& visit = {});

struct RetrievalHeads {
  std::vector<RetrievalRun> runs;  // one a prompt; fewer where `progress` stopped it
  HeadScores scores;               // of the accepted runs
  HeadTable mean;                  // of those
  int64_t accepted = 0;
};

// Throws Error where no prompt is given; `mean` is all zeros where no run was accepted.
// progress(done, total) after each prompt; false stops.
RetrievalHeads find_retrieval_heads(DecoderModel& model, ThreadPool& pool,
                                    std::span<const NeedlePrompt> prompts,
                                    const RetrievalOptions& options,
                                    const PrefillProgress& progress = {});

// The heads with mean >= threshold, best first.
std::vector<HeadId> heads_at_least(const HeadTable& mean, double threshold);

}  // namespace mneme
