// mneme compare: several memories on the same prompt, text or tasks, side by side. This file has the
// options; compare_prompt.cc and compare_study.cc do the work.
#include <algorithm>

#include "apps/mneme/compare_options.h"
#include "mneme/cache/memory_registry.h"
#include "mneme/core/error.h"

namespace mneme::app {
namespace {

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

// Puts the sweeps in and picks the way of comparing that the tasks need.
int compare(CompareOptions options) {
  if (options.compare.specs.empty())
    options.compare.specs = {"full", "q8", "q4", "sliding(window=512,sink=4)"};
  std::vector<Sweep> sweeps;
  for (const std::string& sweep : options.sweeps) sweeps.push_back(parse_sweep(sweep));
  options.memories = expand_sweeps(options.compare.specs, sweeps);
  for (const SweptSpec& memory : options.memories) MemoryRegistry::builtin().canonical(memory.spec);
  MNEME_CHECK(!options.fresh || !options.out.empty(), "--fresh starts a journal over: give --out");

  std::vector<std::string> names = options.tasks;
  if (names.empty()) names = {options.has_text() ? "prompt" : "needle"};
  const bool whole = options.out.empty() && !options.scored;
  if (names.size() == 1 && (names[0] == "prompt" || (names[0] == "perplexity" && whole))) {
    MNEME_CHECK(options.out.empty(),
                "--out keeps a journal of recall and text tasks: give --task needle,kl or others; "
                "for a prompt give --html");
    return compare_prompt(std::move(options), names[0] == "prompt" ? ComparisonTask::kPrompt
                                                                   : ComparisonTask::kPerplexity);
  }
  std::vector<StudyTask> tasks;
  for (const std::string& name : names) tasks.push_back(parse_study_task(name));
  return compare_study(options, tasks);
}

}  // namespace

ReportInfo report_info(const CompareOptions& options, Engine& engine) {
  const ModelConfig& config = engine.model().config();
  return {.model = config.name.empty() ? config.architecture
                                       : config.name + " (" + config.architecture + ")",
          .file = engine.path(),
          .machine = processor_name(),
          .threads = engine.pool().size(),
          .date = date_now(),
          .command = options.command_line};
}

void add_compare(CLI::App& app, Action& action) {
  auto options = std::make_shared<CompareOptions>();
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
      ->add_option("--sweep", options->sweeps,
                   "NAME=v1,v2,...: every --memory that contains $NAME once with each value "
                   "(repeatable: every combination)")
      ->allow_extra_args(false);
  command
      ->add_option("--reference", compare_options.reference,
                   "memory that quality is measured against")
      ->capture_default_str();
  command
      ->add_option("--task", options->tasks,
                   "prompt: answer it; or a list of needle, multikey, vartrack, aggregate (recall "
                   "from generated text, or from the one given), perplexity, kl (of a text's last "
                   "tokens; perplexity alone: of a whole text) (default: prompt with a text, else "
                   "needle)")
      ->delimiter(',')
      ->allow_extra_args(false);
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
                      "perplexity, kl: tokens of the text to read (default: the model's context; "
                      "with --score 4,096)");
  command
      ->add_option("--score", options->scored,
                   "perplexity, kl: score the text's last tokens alone, so many, one by one after "
                   "the others were read as a prompt (default for lists of tasks: 256)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
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
      ->add_option("--lengths", options->recall.lengths, "recall tasks: prompt lengths in tokens")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->capture_default_str();
  command
      ->add_option("--depths", options->recall.depths,
                   "recall tasks: where the answer is hidden, 0 the start, 1 the end")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->capture_default_str();
  command
      ->add_option("--seed", options->recall.seed,
                   "recall tasks: of what is hidden and of filler text")
      ->capture_default_str();
  command
      ->add_option("--chunk", compare_options.chunk,
                   "prompt tokens in one step (default: 512, or the whole prompt where the memory "
                   "judges it as a whole)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  command->add_option("--html", options->html, "write the comparison as one HTML page");
  command
      ->add_option("--out", options->out,
                   "the same, and keep each finished part in a journal beside it (PAGE.journal): "
                   "the same command goes on where it was cut off")
      ->excludes("--html");
  command->add_flag("--fresh", options->fresh, "with --out: forget the journal and start over");
  command->add_flag("--json", options->json, "print a JSON array of rows");
  command->add_flag("-q,--quiet", options->quiet, "no progress");
  command->footer(
      "Example:\n"
      "  mneme compare --file book.txt --memory full --memory q8 --memory q4 --html report.html\n"
      "  mneme compare --task perplexity --file book.txt --tokens 8192\n"
      "  mneme compare --task needle --lengths 1024,4096 --depths 0,0.5,1\n"
      "  mneme compare --task needle,multikey --memory full --memory 'cake(budget=$b)' "
      "--sweep b=0.05,0.1,0.2,0.4 --out page.html");
  command->callback([options, command, &action] {
    options->command_line = command_line_of(*command);
    action = [options] { return compare(*options); };
  });
}

}  // namespace mneme::app
