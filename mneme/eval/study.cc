#include "mneme/eval/study.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "mneme/cache/memory_registry.h"
#include "mneme/core/error.h"
#include "mneme/eval/aggregation.h"
#include "mneme/eval/multikey.h"
#include "mneme/eval/needle.h"
#include "mneme/eval/variable_tracking.h"
#include "mneme/io/hash.h"
#include "mneme/io/quote.h"

namespace mneme {
namespace {

// Longer prompts than this are shown only where there is no shorter one.
constexpr int64_t kReadableTokens = 2048;

// What every memory is given once.
struct StudyCase {
  StudyTask task;
  RecallCase recall;  // of a text task only `length` counts

  int64_t tokens(const StudyOptions& options) const {
    return is_text_task(task) ? std::ssize(options.text) : std::ssize(recall.prompt);
  }
};

std::vector<RecallCase> cases_of(StudyTask task, const Tokenizer& tokenizer,
                                 const StudyOptions& options) {
  switch (task) {
    case StudyTask::kNeedle:
      return needle_cases(tokenizer, options.recall);
    case StudyTask::kMultiKey:
      return multikey_cases(tokenizer, options.recall);
    case StudyTask::kVariableTracking:
      return variable_tracking_cases(tokenizer, options.recall);
    case StudyTask::kAggregation:
      return aggregation_cases(tokenizer, options.recall);
    default:
      return {{.length = std::ssize(options.text)}};
  }
}

class Runner {
 public:
  Runner(DecoderModel& model, ThreadPool& pool, const Tokenizer& tokenizer,
         const StudyOptions& options, const StudyHooks& hooks)
      : model_(model), pool_(pool), tokenizer_(tokenizer), options_(options), hooks_(hooks) {}

  Study run() {
    check();
    prepare();
    for (StudyCell& cell : study_.cells) {
      if (cell.result) continue;
      measure(cell);
      if (study_.interrupted) break;
      ++cells_done_;
      tokens_done_ += cell.tokens;
      if (hooks_.save) hooks_.save(cell);
    }
    return std::move(study_);
  }

 private:
  void check();
  void prepare();
  void choose_shown();
  std::string key_of(const StudyCell& cell, const StudyCase& one) const;
  void measure(StudyCell& cell);
  void measure_text(const StudyCell& cell, const MemoryMaker& make, const MemoryVisitor& visit,
                    StudyResult& result);

  // Tells how far the cell is; false: stop.
  bool tell(const StudyCell& cell, int64_t done) {
    const StudyStep step{.cell = &cell,
                         .cells_done = cells_done_,
                         .cells = cells_,
                         .stored = std::ssize(study_.cells) - cells_,
                         .tokens_done = tokens_done_ + std::min(done, cell.tokens),
                         .tokens = tokens_};
    if (hooks_.progress && !hooks_.progress(step)) study_.interrupted = true;
    return !study_.interrupted;
  }

  ContinuationText text() const {
    return {.tokens = options_.text, .scored = options_.scored, .chunk = options_.chunk};
  }

  DecoderModel& model_;
  ThreadPool& pool_;
  const Tokenizer& tokenizer_;
  const StudyOptions& options_;
  const StudyHooks& hooks_;
  Study study_;
  std::vector<StudyCase> cases_;
  std::optional<size_t> shown_;  // index of a case
  int64_t cells_ = 0, tokens_ = 0, cells_done_ = 0, tokens_done_ = 0;
  std::unique_ptr<SequenceMemory> reference_;  // has read the text's prompt
};

void Runner::check() {
  MNEME_CHECK(!options_.tasks.empty(), "compare: at least one task is needed");
  MNEME_CHECK(!options_.memories.empty(), "compare: at least one memory is needed");
  MNEME_CHECK(options_.budget_bytes >= 0, "compare: the budget must not be negative, got ",
              options_.budget_bytes);
  MNEME_CHECK(options_.chunk >= 0, "compare: the chunk must not be negative, got ", options_.chunk);
  const MemoryRegistry& registry = MemoryRegistry::builtin();
  study_ = {.tasks = options_.tasks,
            .memories = options_.memories,
            .reference = registry.canonical(options_.reference),
            .scored = options_.scored};
  for (const SweptSpec& memory : options_.memories) {
    const std::string spec = registry.canonical(memory.spec);
    MNEME_CHECK(std::ranges::count(study_.specs, spec) == 0, "compare: the memory ", quote(spec),
                " is given twice");
    study_.specs.push_back(spec);
  }
  for (const StudyTask task : options_.tasks) {
    MNEME_CHECK(std::ranges::count(options_.tasks, task) == 1, "compare: the task ",
                task_name(task), " is given twice");
    if (is_text_task(task)) check_continuation(text());
  }
}

void Runner::prepare() {
  for (const StudyTask task : options_.tasks) {
    for (RecallCase& recall : cases_of(task, tokenizer_, options_))
      cases_.push_back({task, std::move(recall)});
  }
  if (options_.keep_maps) choose_shown();
  for (size_t i = 0; i < cases_.size(); ++i) {
    for (size_t memory = 0; memory < study_.memories.size(); ++memory) {
      const StudyCase& one = cases_[i];
      StudyCell cell{.task = one.task,
                     .memory = memory,
                     .length = one.recall.length,
                     .depth = one.recall.depth,
                     .tokens = one.tokens(options_),
                     .shown = shown_ == i};
      cell.key = key_of(cell, one);
      if (hooks_.load) cell.result = hooks_.load(cell.key);
      // It was not looked which tokens are kept when another prompt was the one to be shown.
      if (cell.shown && cell.result && !cell.result->looked && cell.result->error.empty())
        cell.result.reset();
      cell.stored = cell.result.has_value();
      if (!cell.stored) {
        ++cells_;
        tokens_ += cell.tokens;
      }
      study_.cells.push_back(std::move(cell));
    }
  }
}

// Of the first task: the longest prompt that can still be read, as near the middle as there is.
void Runner::choose_shown() {
  const auto cost = [&](const StudyCase& one) {
    const int64_t length = one.recall.length;
    return std::pair(length <= kReadableTokens ? kReadableTokens - length : length,
                     std::abs(one.recall.depth.value_or(0.5) - 0.5));
  };
  for (size_t i = 0; i < cases_.size(); ++i) {
    if (cases_[i].task != cases_[0].task) break;
    if (!shown_ || cost(cases_[i]) < cost(cases_[*shown_])) shown_ = i;
  }
  const StudyCase& one = cases_[*shown_];
  const std::span<const int32_t> prompt =
      is_text_task(one.task) ? text().prompt() : std::span<const int32_t>(one.recall.prompt);
  study_.shown.assign(prompt.begin(), prompt.end());
}

std::string Runner::key_of(const StudyCell& cell, const StudyCase& one) const {
  Hash hash;
  hash.add_text("mneme compare 1");
  hash.add_text(model_.memory_shape().model_fingerprint);
  hash.add_text(model_.linear_form());
  hash.add_text(options_.machine);
  hash.add_text(study_.specs[cell.memory]);
  hash.add_text(task_name(cell.task));
  const auto add_tokens = [&](const std::vector<int32_t>& tokens) {
    hash.add_text(concat(tokens.size()));
    hash.add(tokens.data(), std::ssize(tokens) * static_cast<int64_t>(sizeof(int32_t)));
  };
  if (is_text_task(cell.task)) {
    add_tokens(options_.text);
    hash.add_text(concat(options_.scored));
    if (cell.task == StudyTask::kDivergence) hash.add_text(study_.reference);
  } else {
    add_tokens(one.recall.prompt);
    add_tokens(one.recall.expected);
  }
  hash.add_text(concat(options_.budget_bytes, " ", options_.chunk));
  return hash.text();
}

void Runner::measure(StudyCell& cell) {
  const auto start = std::chrono::steady_clock::now();
  const MemoryMaker make = [&] {
    auto memory = MemoryRegistry::builtin().build(study_.specs[cell.memory], model_.memory_shape());
    memory->set_budget(options_.budget_bytes);
    return memory;
  };
  StudyResult result;
  MemoryVisitor visit;
  if (cell.shown)
    visit = [&](const SequenceMemory& memory) {
      result.kept = kept_tokens(memory);
      result.looked = true;
    };
  const size_t index = static_cast<size_t>(&cell - study_.cells.data()) / study_.memories.size();
  const RecallCase& recall = cases_[index].recall;
  if (!tell(cell, 0)) return;
  try {
    if (is_text_task(cell.task)) {
      measure_text(cell, make, visit, result);
    } else {
      result.recall = score_recall(
          model_, pool_, tokenizer_, make, recall, options_.chunk,
          [&](int64_t done, int64_t) { return tell(cell, done); }, visit);
    }
  } catch (const Error& error) {
    result.error = error.what();
  }
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!study_.interrupted) cell.result = std::move(result);
}

void Runner::measure_text(const StudyCell& cell, const MemoryMaker& make,
                          const MemoryVisitor& visit, StudyResult& result) {
  const PrefillProgress progress = [&](int64_t done, int64_t) { return tell(cell, done); };
  if (cell.task == StudyTask::kPerplexity) {
    result.text = score_continuation(model_, pool_, make, text(), progress, visit);
    return;
  }
  if (reference_ == nullptr) {
    Session session(model_, pool_,
                    MemoryRegistry::builtin().build(study_.reference, model_.memory_shape()));
    session.append(text().prompt(), options_.chunk,
                   [&](int64_t, int64_t) { return tell(cell, 0); });
    if (study_.interrupted) return;
    reference_ = session.memory().fork();
  }
  result.text = continuation_divergence(model_, pool_, *reference_, make, text(), progress, visit);
}

}  // namespace

const char* task_name(StudyTask task) {
  switch (task) {
    case StudyTask::kNeedle:
      return "needle";
    case StudyTask::kMultiKey:
      return "multikey";
    case StudyTask::kVariableTracking:
      return "vartrack";
    case StudyTask::kAggregation:
      return "aggregate";
    case StudyTask::kPerplexity:
      return "perplexity";
    case StudyTask::kDivergence:
      return "kl";
  }
  return "";
}

StudyTask parse_study_task(std::string_view name) {
  std::string known;
  for (const StudyTask task : kStudyTasks) {
    if (name == task_name(task)) return task;
    known += concat(known.empty() ? "" : ", ", task_name(task));
  }
  fail("unknown task ", quote(name), ", expected prompt alone, or some of ", known);
}

Study run_study(DecoderModel& model, ThreadPool& pool, const Tokenizer& tokenizer,
                const StudyOptions& options, const StudyHooks& hooks) {
  return Runner(model, pool, tokenizer, options, hooks).run();
}

}  // namespace mneme
