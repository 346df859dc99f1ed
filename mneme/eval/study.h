// Tasks x memories, cell by cell: every memory with every case of every task, so that a run which was
// cut off goes on where it was and a page can show quality against bytes and speed.
//
//   needle, multikey, vartrack, aggregate   a case for every length and depth (recall.h)
//   perplexity, kl                          the last tokens of a real text (continuation.h)
//
// A cell is one memory with one case. Its key is a hash of everything that decides the result: model,
// memory, the prompt's tokens, options, machine. Cells go case by case, so that what is there after an
// interruption can be compared. As JSON: study_json.h; summed up: study_summary.h; as a page:
// study_html.h. Tests: study_test.cc.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mneme/eval/continuation.h"
#include "mneme/eval/kept_tokens.h"
#include "mneme/eval/recall.h"
#include "mneme/eval/sweep.h"

namespace mneme {

enum class StudyTask {
  kNeedle,
  kMultiKey,
  kVariableTracking,
  kAggregation,
  kPerplexity,
  kDivergence
};
inline constexpr StudyTask kStudyTasks[] = {StudyTask::kNeedle,           StudyTask::kMultiKey,
                                            StudyTask::kVariableTracking, StudyTask::kAggregation,
                                            StudyTask::kPerplexity,       StudyTask::kDivergence};

// "needle", "multikey", "vartrack", "aggregate", "perplexity", "kl"
const char* task_name(StudyTask task);
// Throws Error naming the tasks there are.
StudyTask parse_study_task(std::string_view name);
// Whether a task reads a real text.
inline bool is_text_task(StudyTask task) {
  return task == StudyTask::kPerplexity || task == StudyTask::kDivergence;
}

struct StudyOptions {
  std::vector<StudyTask> tasks;     // at least one, each once
  std::vector<SweptSpec> memories;  // at least one, each once
  std::string reference = "full";   // kDivergence: what divergence is measured against
  int64_t budget_bytes = 0;         // of each memory; 0: no limit
  int64_t chunk = Session::kChosenChunk;
  RecallOptions recall;
  std::vector<int32_t> text;  // of the text tasks
  int64_t scored = 256;       // its last tokens
  bool keep_maps = false;     // see which tokens are kept, on one prompt
  std::string machine;        // becomes part of the keys: speeds are of one machine
};

struct StudyResult {
  std::string error;  // why there is no result; empty: there is one
  double seconds = 0;
  std::optional<RecallScore> recall;      // of a recall task
  std::optional<ContinuationScore> text;  // of a text task
  bool looked = false;                    // at which tokens are kept: the prompt is shown
  std::optional<KeptTokens> kept;         // where it was looked, and some are not
};

struct StudyCell {
  StudyTask task = StudyTask::kNeedle;
  size_t memory = 0;  // index
  int64_t length = 0;
  std::optional<double> depth;
  int64_t tokens = 0;  // that it runs
  std::string key;
  bool shown = false;   // its prompt is the one that is shown
  bool stored = false;  // its result is from an earlier run
  std::optional<StudyResult> result;
};

struct Study {
  std::vector<StudyTask> tasks;
  std::vector<SweptSpec> memories;
  std::vector<std::string> specs;  // [memories] with their defaults
  std::string reference;
  int64_t scored = 0;
  std::vector<StudyCell> cells;
  std::vector<int32_t> shown;  // the prompt that is shown; empty: none
  bool interrupted = false;
};

struct StudyStep {
  const StudyCell* cell = nullptr;
  int64_t cells_done = 0, cells = 0;    // of those this run has to do
  int64_t stored = 0;                   // those it has not: their results were loaded
  int64_t tokens_done = 0, tokens = 0;  // of what it has to do
};

struct StudyHooks {
  // The result of an earlier run, if there is one.
  std::function<std::optional<StudyResult>(const std::string& key)> load;
  // A cell is finished.
  std::function<void(const StudyCell& cell)> save;
  // False stops; the cell under way is then lost.
  std::function<bool(const StudyStep& step)> progress;
};

// Throws Error on options that cannot be, before any work. A memory that cannot do a case gives a
// result with `error`; the others go on.
Study run_study(DecoderModel& model, ThreadPool& pool, const Tokenizer& tokenizer,
                const StudyOptions& options, const StudyHooks& hooks = {});

}  // namespace mneme
