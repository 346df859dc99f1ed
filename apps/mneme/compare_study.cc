// mneme compare on recall and text tasks: every memory with every case, resumable, as tables, JSON or
// an HTML page.
#include <algorithm>
#include <iostream>

#include "apps/mneme/compare_options.h"
#include "apps/mneme/text_table.h"
#include "mneme/core/error.h"
#include "mneme/eval/html_text.h"
#include "mneme/eval/study_html.h"
#include "mneme/eval/study_json.h"
#include "mneme/eval/study_summary.h"
#include "mneme/io/journal.h"

namespace mneme::app {
namespace {

// Tokens of a text that are read where nothing was said.
constexpr int64_t kTextTokens = 4096;

StudyOptions study_options(const CompareOptions& options, const std::vector<StudyTask>& tasks,
                           Engine& engine) {
  StudyOptions study{.tasks = tasks,
                     .memories = options.memories,
                     .reference = options.compare.reference,
                     .budget_bytes = options.budget.empty() ? 0 : parse_bytes(options.budget),
                     .chunk = options.compare.chunk,
                     .recall = options.recall,
                     .keep_maps = !options.html.empty() || !options.out.empty()};
  study.machine = concat(processor_name(), ", ", engine.pool().size(), " threads");
  if (options.scored) study.scored = *options.scored;
  const bool reads_text = std::ranges::any_of(tasks, is_text_task);
  if (!reads_text && !options.has_text()) return study;
  const std::string text = read_prompt(options.prompt, options.file);
  if (std::ranges::any_of(tasks, [](StudyTask task) { return !is_text_task(task); }))
    study.recall.haystack = text;
  if (!reads_text) return study;
  study.text = engine.encode_prompt(text);
  const int64_t wanted =
      options.tokens > 0 ? options.tokens : std::min(kTextTokens, engine.model().config().context);
  if (std::ssize(study.text) > wanted) study.text.resize(static_cast<size_t>(wanted));
  return study;
}

std::string rate_cell(double rate) { return rate > 0 ? fixed_number(rate, 1) : "-"; }

std::vector<std::string> quality_titles(StudyTask task) {
  if (task == StudyTask::kPerplexity) return {"perplexity", "nats/token"};
  if (task == StudyTask::kDivergence) return {"mean KL", "p99 KL", "same top"};
  return {"logp/token", "exact", "found"};
}

std::string percent_cell(double share) { return fixed_number(100 * share, 1) + "%"; }

std::vector<std::string> quality_cells(StudyTask task, const StudySummary& summary) {
  if (summary.recall)
    return {fixed_number(summary.recall->mean_log_prob, 3),
            percent_cell(summary.recall->exact_rate), percent_cell(summary.recall->found_rate)};
  if (task == StudyTask::kDivergence && summary.text && summary.text->divergence) {
    const KlSummary& divergence = *summary.text->divergence;
    return {short_number(divergence.mean), short_number(divergence.p99),
            percent_cell(divergence.top1_agreement)};
  }
  if (summary.text)
    return {fixed_number(*summary.quality(task), 3), fixed_number(summary.text->mean_nll, 4)};
  return std::vector<std::string>(quality_titles(task).size(), "-");
}

// Lengths of a task's cases; only where there are several.
std::vector<int64_t> lengths_of(const Study& study, StudyTask task) {
  std::vector<int64_t> lengths;
  for (const StudyCell& cell : study.cells) {
    if (cell.task == task && std::ranges::count(lengths, cell.length) == 0)
      lengths.push_back(cell.length);
  }
  return lengths.size() > 1 ? lengths : std::vector<int64_t>();
}

void print_task(const Study& study, StudyTask task) {
  std::vector<std::string> titles = {task_name(task), "resident",   "of f16",
                                     "peak",          "prompt t/s", "decode t/s"};
  for (const std::string& title : quality_titles(task)) titles.push_back(title);
  const std::vector<int64_t> lengths = lengths_of(study, task);
  for (const int64_t length : lengths) titles.push_back(concat("at ", length));
  TextTable table(titles);
  for (size_t memory = 0; memory < study.memories.size(); ++memory) {
    const StudySummary summary = summarise(study, task, memory);
    std::vector<std::string> cells = {study.memories[memory].spec};
    if (summary.cases == 0) {
      cells.resize(titles.size(), "-");
      table.add(std::move(cells));
      continue;
    }
    cells.insert(cells.end(), {bytes_text(summary.resident_bytes),
                               percent_cell(static_cast<double>(summary.resident_bytes) /
                                            static_cast<double>(summary.logical_bytes)),
                               bytes_text(summary.peak_bytes), rate_cell(summary.prefill_rate),
                               rate_cell(summary.decode_rate)});
    for (const std::string& cell : quality_cells(task, summary)) cells.push_back(cell);
    for (const int64_t length : lengths) {
      const auto quality = summarise(study, task, memory, length).quality(task);
      cells.push_back(quality ? fixed_number(*quality, 3) : "-");
    }
    table.add(std::move(cells));
  }
  table.print(std::cout);
  for (size_t memory = 0; memory < study.memories.size(); ++memory) {
    const StudySummary summary = summarise(study, task, memory);
    if (!summary.error.empty())
      std::cout << study.memories[memory].spec << ": " << summary.error << "\n";
  }
}

// Results of earlier runs by the journal, and what is said of them.
class Resume {
 public:
  Resume(const std::string& page, bool fresh, bool quiet) : quiet_(quiet) {
    if (page.empty()) return;
    journal_.emplace(page + ".journal", fresh);
    if (!journal_->damage().empty())
      say(journal_->path() + ": " + journal_->damage() + ": passed over");
  }

  std::optional<StudyResult> load(const std::string& key) {
    if (!journal_) return std::nullopt;
    const std::string* json = journal_->find(key);
    if (json == nullptr) return std::nullopt;
    try {
      return parse_study_result(*json);
    } catch (const Error& error) {
      say(journal_->path() + ": " + error.what() + ": it is measured again");
      return std::nullopt;
    }
  }

  void save(const StudyCell& cell) {
    if (journal_) journal_->append(cell.key, study_result_json(*cell.result));
  }

  // Once, before the work.
  void tell(int64_t stored, int64_t to_do) {
    if (std::exchange(told_, true) || stored == 0) return;
    say(concat(journal_->path(), ": ", stored, " of ", stored + to_do,
               " parts are there from earlier, ", to_do, " to do"));
  }

 private:
  void say(const std::string& line) const {
    if (!quiet_) std::cerr << line << std::endl;
  }
  std::optional<Journal> journal_;
  bool quiet_, told_ = false;
};

std::string input_text(const CompareOptions& options, const StudyOptions& study) {
  const bool recalls =
      std::ranges::any_of(study.tasks, [](StudyTask task) { return !is_text_task(task); });
  std::string text;
  if (recalls)
    text = concat("hidden in ", options.source(), ", seed ", options.recall.seed,
                  "; lengths are exact but for aggregate, whose prompts end at a whole word");
  if (!study.text.empty())
    text += concat(text.empty() ? "" : "; ", "the last ", grouped_number(study.scored), " of ",
                   grouped_number(std::ssize(study.text)), " tokens of ", options.source(),
                   " are scored");
  return text;
}

}  // namespace

int compare_study(const CompareOptions& options, const std::vector<StudyTask>& tasks) {
  const bool quiet = options.quiet || options.json;
  const std::string path = options.out.empty() ? options.html : options.out;
  // Beside a journal nothing is left lying by a kill: the page is tried out and written at the end.
  PromisedFile page(options.html);
  if (!options.out.empty()) AtomicFile(options.out);
  const auto engine = options.model.open();
  const StudyOptions study_of = study_options(options, tasks, *engine);
  Resume resume(options.out, options.fresh, options.quiet);

  Study study;
  {
    std::optional<Progress> progress;
    const auto show = [&](const StudyStep& step) {
      resume.tell(step.stored, step.cells);
      if (!progress) progress.emplace("compare", "tokens", step.tokens, progress_style(quiet));
      const StudyCell& cell = *step.cell;
      progress->update(
          step.tokens_done,
          concat(step.cells_done, " of ", step.cells, " parts done: ", task_name(cell.task), " ",
                 cell.length, ", ", study_of.memories[cell.memory].spec));
      return !interrupted();
    };
    study = run_study(engine->model(), engine->pool(), engine->tokenizer(), study_of,
                      {.load = [&](const std::string& key) { return resume.load(key); },
                       .save = [&](const StudyCell& cell) { resume.save(cell); },
                       .progress = show});
  }
  resume.tell(std::ranges::count_if(study.cells, &StudyCell::stored), 0);
  if (options.json) {
    std::cout << study_json(study) << "\n";
  } else {
    for (const StudyTask task : tasks) {
      if (task != tasks.front()) std::cout << "\n";
      print_task(study, task);
    }
    std::cout << std::flush;
  }
  if (!path.empty()) {
    ReportInfo info = report_info(options, *engine);
    info.input = input_text(options, study_of);
    const std::string html = study_html(study, engine->tokenizer(), info);
    page.save(html);
    if (!options.out.empty()) write_file_atomically(options.out, html);
    if (!options.quiet) std::cerr << "report: " << path << std::endl;
  }
  if (study.interrupted) return 130;
  const auto failed = [](const StudyCell& cell) { return !cell.result->error.empty(); };
  if (std::ranges::all_of(study.cells, failed))
    fail("no memory could do it: ", study.cells.front().result->error);
  return 0;
}

}  // namespace mneme::app
