// mneme compare: several memories on the same prompt or task, as a table, JSON or an HTML page.
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <map>
#include <optional>

#include "apps/mneme/command.h"
#include "apps/mneme/text_table.h"
#include "mneme/cache/memory_registry.h"
#include "mneme/core/error.h"
#include "mneme/eval/comparison.h"
#include "mneme/eval/comparison_json.h"
#include "mneme/eval/html_text.h"
#include "mneme/eval/report_html.h"
#include "mneme/io/utf8.h"

namespace mneme::app {
namespace {

constexpr int64_t kExcerptBytes = 400;

struct Options {
  ModelOptions model;
  ComparisonOptions compare;
  std::string prompt, file, html, budget;
  std::string task = "prompt";
  int64_t tokens = 0;
  uint64_t seed = 1;
  bool chat = false, json = false, quiet = false;
  std::string command_line;
};

// The command line as it could be typed again.
std::string command_line_of(const CLI::App& command) {
  std::string line = "mneme " + command.get_name();
  for (const CLI::Option* option : command.get_options()) {
    if (option->count() == 0) continue;
    const std::string name = option->get_name();
    if (option->get_items_expected_max() == 0) {
      line += " " + name;
      continue;
    }
    for (const std::string& value : option->results()) {
      const bool plain =
          !value.empty() && value.find_first_not_of(
                                "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789-_./,:=@%+") == std::string::npos;
      std::string shown = value.size() > 200 ? value.substr(0, 200) + "..." : value;
      for (size_t at = 0; (at = shown.find('\'', at)) != std::string::npos; at += 4)
        shown.replace(at, 1, "'\\''");
      line += " " + name + " " + (plain ? shown : "'" + shown + "'");
    }
  }
  return line;
}

// The end of `text`, from a character's first byte on.
std::string excerpt_of(const std::string& text) {
  const auto size = static_cast<int64_t>(text.size());
  if (size <= kExcerptBytes) return text;
  auto at = static_cast<size_t>(size - kExcerptBytes);
  while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0u) == 0x80u) ++at;
  return "… " + text.substr(at);
}

// Reads the input of the task into options.compare; returns the text for the report.
std::string read_input(Options& options, const Engine& engine) {
  ComparisonOptions& compare = options.compare;
  if (compare.task == ComparisonTask::kNeedle) {
    compare.needle.seed = options.seed;
    compare.needle.chunk = compare.chunk;
    if (!options.prompt.empty() || !options.file.empty())
      compare.needle.haystack = read_prompt(options.prompt, options.file);
    return "";
  }
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

std::string input_text(const Options& options, const Comparison& result) {
  const std::string source = !options.file.empty()     ? options.file
                             : !options.prompt.empty() ? "the command line"
                                                       : "generated text";
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
    case ComparisonTask::kNeedle:
      return concat("pass keys hidden in ", source, ", seed ", options.seed);
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
    case ComparisonTask::kNeedle:
      return {"logp/token", "exact"};
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
  if (row.needle_quality) {
    const NeedleSummary& summary = row.needle_quality->summary;
    return {fixed_number(summary.mean_log_prob, 3),
            fixed_number(100 * summary.exact_rate, 1) + "%"};
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

int compare(Options options) {
  ComparisonOptions& compare = options.compare;
  compare.task = options.task == "prompt"       ? ComparisonTask::kPrompt
                 : options.task == "perplexity" ? ComparisonTask::kPerplexity
                                                : ComparisonTask::kNeedle;
  if (compare.specs.empty()) compare.specs = {"full", "q8", "q4", "sliding(window=512,sink=4)"};
  for (const std::string& spec : compare.specs) MemoryRegistry::builtin().canonical(spec);
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
    const ModelConfig& config = engine->model().config();
    page.save(report_html(
        result, {.model = config.name.empty() ? config.architecture
                                              : config.name + " (" + config.architecture + ")",
                 .file = engine->path(),
                 .input = input_text(options, result),
                 .excerpt = excerpt,
                 .machine = processor_name(),
                 .threads = engine->pool().size(),
                 .date = date_now(),
                 .command = options.command_line}));
    if (!options.quiet) std::cerr << "report: " << options.html << std::endl;
  }
  if (result.interrupted) return 130;
  // Nothing to compare is a failure; its reason is already in the table.
  const bool all_failed =
      std::ranges::all_of(result.rows, [](const ComparisonRow& row) { return !row.error.empty(); });
  if (all_failed) fail("no memory could do it: ", result.rows.front().error);
  return 0;
}

}  // namespace

void add_compare(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  ComparisonOptions& compare_options = options->compare;
  CLI::App* command =
      app.add_subcommand("compare", "Run several memories on one prompt or task, side by side");
  options->model.add_with_weights_to(*command);
  command->add_option("-p,--prompt", options->prompt, "the prompt; for other tasks the text");
  command->add_option("-f,--file", options->file, "read it from a file, '-': standard input");
  command
      ->add_option("--memory", compare_options.specs,
                   "memory spec, see `mneme list` (repeatable; default: full, q8, q4, "
                   "sliding(window=512,sink=4))")
      ->allow_extra_args(false);
  command
      ->add_option("--reference", compare_options.reference,
                   "memory that quality is measured against")
      ->capture_default_str();
  command
      ->add_option("--task", options->task,
                   "prompt: answer it; perplexity: of a text; needle: find hidden pass keys")
      ->check(CLI::IsMember({"prompt", "perplexity", "needle"}))
      ->capture_default_str();
  command->add_option("--budget", options->budget, "refuse memories larger than this, as 64MiB");
  command
      ->add_option("-n,--max-tokens", compare_options.generate.max_tokens,
                   "prompt: tokens to generate at most")
      ->capture_default_str();
  command->add_flag("--ignore-end", compare_options.generate.ignore_end,
                    "prompt: go on past the model's end-of-text token");
  command->add_flag("--chat", options->chat, "prompt: wrap it in the model's chat template");
  command
      ->add_option("--tail", compare_options.tail,
                   "prompt: last tokens of it over which divergence is measured")
      ->capture_default_str();
  command->add_option("--tokens", options->tokens,
                      "perplexity: tokens of the text to read (default: the model's context)");
  command
      ->add_option("--window", compare_options.perplexity.window,
                   "perplexity: tokens a window holds, 0: one pass over the whole text")
      ->capture_default_str();
  command
      ->add_option("--stride", compare_options.perplexity.stride,
                   "perplexity: tokens from one window to the next")
      ->capture_default_str();
  command->add_flag("--kl", compare_options.divergence,
                    "perplexity: measure KL divergence over the text too (twice the time)");
  command
      ->add_option("--lengths", compare_options.needle.lengths, "needle: prompt lengths in tokens")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->capture_default_str();
  command
      ->add_option("--depths", compare_options.needle.depths,
                   "needle: where the key is hidden, 0 the start, 1 the end")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->capture_default_str();
  command->add_option("--seed", options->seed, "needle: of keys and filler text")
      ->capture_default_str();
  command
      ->add_option("--chunk", compare_options.chunk,
                   "prompt tokens in one step (default: 512, or the whole prompt where the memory "
                   "judges it as a whole)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  command->add_option("--html", options->html, "write the comparison as one HTML page");
  command->add_flag("--json", options->json, "print a JSON array of rows");
  command->add_flag("-q,--quiet", options->quiet, "no progress");
  command->footer(
      "Example:\n"
      "  mneme compare --file book.txt --memory full --memory q8 --memory q4 --html report.html\n"
      "  mneme compare --task perplexity --file book.txt --tokens 8192\n"
      "  mneme compare --task needle --lengths 1024,4096 --depths 0,0.5,1");
  command->callback([options, command, &action] {
    options->command_line = command_line_of(*command);
    action = [options] { return compare(*options); };
  });
}

}  // namespace mneme::app
