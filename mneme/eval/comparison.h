// Several memories on the same model and input, side by side: quality, speed, bytes.
//
// Task prompt:      each memory reads the prompt and answers it greedily. Quality is the divergence
//                   from the reference memory over the prompt's last `tail` tokens, and how likely
//                   and how often preferred the reference's own answer is. On the way, decode speed
//                   is measured on forks at a few lengths, so the prompt goes on undisturbed.
// Task perplexity:  of a text (perplexity.h), with the ratio to the reference.
//
// Tasks that memories are given many times, at several lengths and depths, are those of study.h.
// A memory that cannot do the task gives a row with `error`; the others go on. As JSON:
// comparison_json.h; as a page: report_html.h. Tests: comparison_test.cc.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "mneme/core/thread_pool.h"
#include "mneme/eval/kl_divergence.h"
#include "mneme/eval/perplexity.h"
#include "mneme/io/tokenizer.h"
#include "mneme/models/decoder.h"
#include "mneme/runtime/generate.h"

namespace mneme {

enum class ComparisonTask { kPrompt, kPerplexity };

struct ComparisonOptions {
  ComparisonTask task = ComparisonTask::kPrompt;
  std::vector<std::string> specs;  // at least one; the order of the rows
  std::string reference = "full";  // what quality is measured against; runs unseen if not in specs
  int64_t budget_bytes = 0;        // of each memory but an unseen reference; 0: no limit
  int64_t chunk = Session::kChosenChunk;  // prompt tokens in one step

  std::vector<int32_t> tokens;                    // kPrompt: the prompt; kPerplexity: the text
  GenerateOptions generate = {.max_tokens = 64};  // kPrompt
  int64_t tail = 256;            // kPrompt: tokens over which divergence is measured
  int64_t speed_points = 5;      // kPrompt: lengths at which decode speed is measured
  int64_t speed_tokens = 8;      // kPrompt: tokens decoded at each
  PerplexityOptions perplexity;  // kPerplexity
  bool divergence = false;       // kPerplexity: KL over the text too, for twice the time
};

struct PromptQuality {
  KlSummary divergence;
  int64_t answer_tokens = 0;   // of the reference's answer; 0: it gave none
  double answer_log_prob = 0;  // of the reference's answer under this memory, mean per token
  // Share of its tokens that this memory would pick too, given those before.
  double answer_agreement = 0;
  int64_t same_tokens = 0;  // leading tokens of this memory's own answer that equal the reference's
};

struct PerplexityQuality {
  int64_t tokens = 0;
  double perplexity = 0, perplexity_error = 0, mean_nll = 0;
  std::optional<double> ratio;  // to the reference's perplexity, where that could be had
  std::optional<KlSummary> divergence;
};

struct SpeedPoint {
  int64_t context = 0;      // tokens held
  double prefill_rate = 0;  // tokens/s since the point before
  double decode_rate = 0;   // tokens/s; 0: not measured
};

struct ComparisonRow {
  std::string label;  // the spec as asked for
  std::string spec;   // with its defaults
  std::string error;  // why there is no result; empty: there is one

  std::string text;  // kPrompt
  std::vector<int32_t> tokens;
  int64_t prompt_tokens = 0;
  int64_t reused_tokens = 0;
  double prefill_rate = 0, decode_rate = 0;  // tokens/s; 0: not measured
  double seconds = 0;                        // everything, measurements included
  int64_t resident_bytes = 0, logical_bytes = 0, peak_bytes = 0;
  std::vector<SpeedPoint> speed;

  // The one of the task, where it could be had.
  std::optional<PromptQuality> prompt_quality;
  std::optional<PerplexityQuality> perplexity_quality;
};

struct Comparison {
  ComparisonTask task = ComparisonTask::kPrompt;
  std::string reference;        // with its defaults
  std::string reference_error;  // why there is nothing to compare with; empty: there is
  std::vector<ComparisonRow> rows;
  bool interrupted = false;  // rows are those begun before
};

// What is being done: shown to a person, who may stop it by returning false.
struct ComparisonStep {
  std::string label;  // spec
  const char* stage = "";
  int64_t done = 0, total = 0;  // tokens of the stage
  int64_t resident_bytes = 0;   // 0: not known
};
using ComparisonProgress = std::function<bool(const ComparisonStep&)>;

// Throws Error on an option or spec that cannot be, before any work.
Comparison compare_memories(DecoderModel& model, ThreadPool& pool, const Tokenizer& tokenizer,
                            const ComparisonOptions& options,
                            const ComparisonProgress& progress = {});

}  // namespace mneme
