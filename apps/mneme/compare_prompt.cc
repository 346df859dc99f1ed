// mneme compare on one prompt or text: every memory once, as a table, JSON or an HTML page.
#include <algorithm>
#include <iostream>
#include <map>

#include "apps/mneme/compare_options.h"
#include "apps/mneme/text_table.h"
#include "mneme/core/error.h"
#include "mneme/eval/comparison_json.h"
#include "mneme/eval/html_text.h"
#include "mneme/io/utf8.h"

namespace mneme::app {
namespace {

constexpr int64_t kExcerptBytes = 400;

// The end of `text`, from a character's first byte on.
std::string excerpt_of(const std::string& text) {
  const auto size = static_cast<int64_t>(text.size());
  if (size <= kExcerptBytes) return text;
  auto at = static_cast<size_t>(size - kExcerptBytes);
  while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0u) == 0x80u) ++at;
  return "… " + text.substr(at);
}

// Reads the input of the task into options.compare; returns the text for the report.
std::string read_input(CompareOptions& options, const Engine& engine) {
  ComparisonOptions& compare = options.compare;
  std::string text = read_prompt(options.prompt, options.file);
  if (compare.task == ComparisonTask::kPrompt) {
    compare.tokens =
        options.chat ? engine.encode_chat({{"user", text}}) : engine.encode_prompt(text);
    return excerpt_of(text);
  }
  const Tokenizer& tokenizer = engine.tokenizer();
  compare.tokens = tokenizer.encode(text);
  if (tokenizer.adds_bos()) compare.perplexity.begin = tokenizer.bos();
  const int64_t lead = compare.perplexity.begin >= 0 ? 1 : 0;
  const int64_t wanted = options.tokens > 0 ? options.tokens : engine.model().config().context;
  if (static_cast<int64_t>(compare.tokens.size()) + lead > wanted)
    compare.tokens.resize(static_cast<size_t>(std::max<int64_t>(0, wanted - lead)));
  return "";
}

std::string input_text(const CompareOptions& options, const Comparison& result) {
  const std::string source = options.source();
  int64_t tokens = 0;
  for (const ComparisonRow& row : result.rows) tokens = std::max(tokens, row.prompt_tokens);
  switch (result.task) {
    case ComparisonTask::kPrompt:
      return concat("prompt from ", source, ", ", grouped_number(tokens),
                    " tokens; divergence over its last ",
                    std::min(tokens - 1, options.compare.tail));
    case ComparisonTask::kPerplexity:
      return concat(grouped_number(tokens), " tokens of ", source,
                    options.compare.perplexity.window == 0
                        ? std::string(", in one pass")
                        : concat(", in windows of ", options.compare.perplexity.window, ", ",
                                 options.compare.perplexity.stride, " apart"));
  }
  return source;
}

std::string rate_cell(double rate) { return rate > 0 ? fixed_number(rate, 1) : "-"; }

std::vector<std::string> quality_titles(ComparisonTask task) {
  switch (task) {
    case ComparisonTask::kPrompt:
      return {"mean KL", "same top", "answer logp"};
    case ComparisonTask::kPerplexity:
      return {"perplexity", "to reference", "mean KL"};
  }
  return {};
}

std::vector<std::string> quality_cells(const ComparisonRow& row, ComparisonTask task) {
  if (row.prompt_quality) {
    const PromptQuality& quality = *row.prompt_quality;
    return {short_number(quality.divergence.mean),
            fixed_number(100 * quality.divergence.top1_agreement, 1) + "%",
            quality.answer_tokens > 0 ? fixed_number(quality.answer_log_prob, 3) : "-"};
  }
  if (row.perplexity_quality) {
    const PerplexityQuality& quality = *row.perplexity_quality;
    return {
        fixed_number(quality.perplexity, 4) + " +- " + fixed_number(quality.perplexity_error, 2),
        quality.ratio ? fixed_number(100 * (*quality.ratio - 1), 3) + "%" : "-",
        quality.divergence ? short_number(quality.divergence->mean) : "-"};
  }
  return std::vector<std::string>(quality_titles(task).size(), "-");
}

// Text on one line of at most `limit` characters.
std::string one_line(const std::string& text, size_t limit) {
  std::string line = repair_utf8(text);
  for (char& letter : line) {
    if (static_cast<unsigned char>(letter) < 0x20 || letter == 0x7f) letter = ' ';
  }
  if (line.size() <= limit) return line;
  while (limit > 0 && (static_cast<unsigned char>(line[limit]) & 0xc0u) == 0x80u) --limit;
  return line.substr(0, limit) + "...";
}

void print_human(const Comparison& result) {
  std::vector<std::string> titles = {"memory", "resident",   "of f16",
                                     "peak",   "prompt t/s", "decode t/s"};
  for (const std::string& title : quality_titles(result.task)) titles.push_back(title);
  TextTable table(std::move(titles));
  for (const ComparisonRow& row : result.rows) {
    std::vector<std::string> cells = {row.label};
    if (row.logical_bytes > 0) {
      cells.insert(cells.end(), {bytes_text(row.resident_bytes),
                                 fixed_number(100.0 * static_cast<double>(row.resident_bytes) /
                                                  static_cast<double>(row.logical_bytes),
                                              1) +
                                     "%",
                                 bytes_text(row.peak_bytes), rate_cell(row.prefill_rate),
                                 rate_cell(row.decode_rate)});
    } else {
      cells.insert(cells.end(), 5, "-");
    }
    const auto quality = quality_cells(row, result.task);
    cells.insert(cells.end(), quality.begin(), quality.end());
    table.add(std::move(cells));
  }
  table.print(std::cout);
  for (const ComparisonRow& row : result.rows) {
    if (!row.error.empty()) std::cout << row.label << ": " << row.error << "\n";
  }
  if (result.task == ComparisonTask::kPrompt) {
    std::cout << "\n";
    for (const ComparisonRow& row : result.rows) {
      if (row.error.empty()) std::cout << row.label << ": " << one_line(row.text, 120) << "\n";
    }
  }
  std::cout << std::flush;
}

// One progress line for each stage of each memory. A stage that others interrupt goes on where it
// was.
class Reporter {
 public:
  explicit Reporter(Progress::Style style) : style_(style) {}

  bool operator()(const ComparisonStep& step) {
    const std::string what = step.label + ", " + step.stage;
    const auto [line, is_new] = lines_.try_emplace(what, what, "tokens", step.total, style_);
    line->second.update(step.done, step.resident_bytes > 0
                                       ? "memory " + bytes_text(step.resident_bytes)
                                       : std::string());
    return !interrupted();
  }

 private:
  Progress::Style style_;
  std::map<std::string, Progress> lines_;
};

}  // namespace

int compare_prompt(CompareOptions options, ComparisonTask task) {
  ComparisonOptions& compare = options.compare;
  compare.task = task;
  compare.specs.clear();
  for (const SweptSpec& memory : options.memories) compare.specs.push_back(memory.spec);
  compare.budget_bytes = options.budget.empty() ? 0 : parse_bytes(options.budget);
  PromisedFile page(options.html);
  const auto engine = options.model.open();
  const std::string excerpt = read_input(options, *engine);

  Comparison result;
  {
    Reporter reporter(progress_style(options.quiet || options.json));
    result = compare_memories(engine->model(), engine->pool(), engine->tokenizer(), compare,
                              [&](const ComparisonStep& step) { return reporter(step); });
  }
  if (options.json) {
    std::cout << comparison_json(result) << "\n";
  } else {
    print_human(result);
  }
  if (page) {
    ReportInfo info = report_info(options, *engine);
    info.input = input_text(options, result);
    info.excerpt = excerpt;
    page.save(report_html(result, info));
    if (!options.quiet) std::cerr << "report: " << options.html << std::endl;
  }
  if (result.interrupted) return 130;
  // Nothing to compare is a failure; its reason is already in the table.
  const bool all_failed =
      std::ranges::all_of(result.rows, [](const ComparisonRow& row) { return !row.error.empty(); });
  if (all_failed) fail("no memory could do it: ", result.rows.front().error);
  return 0;
}

}  // namespace mneme::app
