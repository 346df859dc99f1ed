// mneme profile alisa: what three tiers of tokens cost on this machine, and the cheapest schedule.
#include <iostream>

#include "apps/mneme/memory_json.h"
#include "apps/mneme/profile.h"
#include "apps/mneme/text_table.h"
#include "mneme/core/error.h"
#include "mneme/eval/html_text.h"
#include "mneme/eval/tier_study_html.h"
#include "mneme/runtime/tier_study.h"

namespace mneme::app {
namespace {

struct Options {
  ModelOptions model;
  TierStudyOptions study;
  std::string prompt, file, html, slow = "int8", dtype = "f16", store = "memory";
  int64_t tokens = 1088;
  bool json = false, quiet = false;
};

// The schedule as the memory takes it.
std::string spec_of(const AlisaOptions& memory, const std::string& slow, const std::string& store,
                    const TierSchedule& schedule) {
  return concat("alisa(ratio=", memory.ratio, ",capacity=", memory.capacity,
                ",alpha=", schedule.alpha, ",beta=", schedule.beta, ",p2=", schedule.p2,
                ",slow=", slow, ",block=", memory.block, ",store=", store, ")");
}

nlohmann::ordered_json json_of(const TierRun& run) {
  nlohmann::ordered_json steps = nlohmann::ordered_json::array();
  for (size_t j = 0; j < run.measured.size(); ++j) {
    const TierStep& did = run.measured[j];
    steps.push_back({{"predicted_seconds", run.predicted[j].time},
                     {"measured_seconds", did.time},
                     {"phase", did.phase},
                     {"fast", did.fast},
                     {"slow", did.slow},
                     {"deleted", did.deleted},
                     {"loads", did.loads},
                     {"recomputes", did.recomputes},
                     {"stores", did.stores}});
  }
  return {{"name", run.name},
          {"alpha", run.schedule.alpha},
          {"beta", run.schedule.beta},
          {"p1", run.schedule.p1},
          {"p2", run.schedule.p2},
          {"predicted_seconds", run.predicted_seconds()},
          {"measured_seconds", run.measured_seconds()},
          {"fast_tokens", run.fast_tokens},
          {"same_answers", run.same_answers},
          {"largest_difference", run.largest_difference},
          {"steps", steps}};
}

void print(const TierStudy& study, const std::string& spec) {
  const TierCosts& c = study.costs;
  std::printf(
      "a step %.2f ms + %.2f us a token read; a slow token %.2f us a layer (%.2f GB/s); a token "
      "run again %.2f ms\n",
      c.c0 * 1e3, c.c1 * 1e6, c.bytes / c.bandwidth * 1e6, c.bandwidth * 1e-9, c.replay * 1e3);
  TextTable table({"schedule", "beta", "p2", "predicted s", "measured s", "ratio", "loads",
                   "recomputes", "fast tokens", "answers"});
  for (const TierRun& run : study.runs) {
    int64_t loads = 0, recomputes = 0;
    for (const TierStep& step : run.measured) loads += step.loads, recomputes += step.recomputes;
    table.add({run.name, short_number(run.schedule.beta), std::to_string(run.schedule.p2),
               fixed_number(run.predicted_seconds(), 3), fixed_number(run.measured_seconds(), 3),
               fixed_number(run.predicted_seconds() / run.measured_seconds(), 2),
               grouped_number(loads), grouped_number(recomputes), grouped_number(run.fast_tokens),
               run.same_answers ? "same bits" : "within " + short_number(run.largest_difference)});
  }
  std::fflush(stdout);
  table.print(std::cout);
  std::cout << "everything in the fast tier: " << fixed_number(study.unbounded_seconds, 3)
            << " s\nbest: --memory '" << spec << "'\n";
}

int profile(Options options) {
  PromisedFile page(options.html);
  const std::string text = read_prompt(options.prompt, options.file);
  TierStudyOptions& study = options.study;
  study.memory.slow_bits = options.slow == "same" ? 0 : options.slow == "int8" ? 8 : 4;
  study.memory.dtype = options.dtype == "f32" ? DType::kF32 : DType::kF16;
  study.memory.in_file = options.store == "disk";
  const auto engine = options.model.open();
  study.tokens = engine->encode_prompt(text);
  MNEME_CHECK(std::ssize(study.tokens) >= options.tokens, "the text has ", study.tokens.size(),
              " tokens, --tokens asks for ", options.tokens);
  study.tokens.resize(static_cast<size_t>(options.tokens));
  TierStudy result;
  {
    Progress progress("profile", "steps", 4 * study.steps,
                      progress_style(options.quiet || options.json));
    result = study_tiers(engine->model(), engine->pool(), study, [&](int64_t done, int64_t) {
      progress.update(done);
      return !interrupted();
    });
  }
  if (!result.complete) return 130;
  const std::string spec = spec_of(study.memory, options.slow, options.store, result.best);
  page.save(tier_study_html(
      result, {{"model", engine->model().config().name},
               {"fast tier", concat(study.memory.capacity, " tokens of ", options.dtype)},
               {"slow tier", options.slow + " in " + options.store},
               {"share read", short_number(study.memory.ratio)},
               {"best schedule", spec}}));
  if (!options.json) {
    print(result, spec);
    return 0;
  }
  nlohmann::ordered_json runs = nlohmann::ordered_json::array();
  for (const TierRun& run : result.runs) runs.push_back(json_of(run));
  std::cout << json_text({{"prompt", result.prompt},
                          {"steps", study.steps},
                          {"costs",
                           {{"c0_seconds", result.costs.c0},
                            {"c1_seconds", result.costs.c1},
                            {"bytes", result.costs.bytes},
                            {"bytes_per_second", result.costs.bandwidth},
                            {"replay_seconds", result.costs.replay}}},
                          {"unbounded_seconds", result.unbounded_seconds},
                          {"best", spec},
                          {"runs", runs},
                          {"html", options.html}})
            << "\n";
  return 0;
}

}  // namespace

void add_profile_alisa(CLI::App& profiles, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* alisa = profiles.add_subcommand(
      "alisa", "What tokens in a slow tier or deleted ones cost, and the best schedule for them");
  options->model.add_to(*alisa);
  TierStudyOptions& study = options->study;
  study.memory.capacity = 576;
  alisa->add_option("-p,--prompt", options->prompt, "the text");
  alisa->add_option("-f,--file", options->file, "its file; - is standard input");
  alisa->add_option("--tokens", options->tokens, "of the text, those decoded included")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 20))
      ->capture_default_str();
  alisa->add_option("--steps", study.steps, "of its last tokens, decoded")->capture_default_str();
  alisa->add_option("--ratio", study.memory.ratio, "share of the tokens that a query reads")
      ->capture_default_str();
  alisa->add_option("--capacity", study.memory.capacity, "tokens of the fast tier")
      ->capture_default_str();
  alisa->add_option("--block", study.memory.block, "tokens that move together")
      ->capture_default_str();
  alisa->add_option("--slow", options->slow, "how slow tokens are stored")
      ->check(CLI::IsMember({"int8", "int4", "same"}))
      ->capture_default_str();
  alisa->add_option("--dtype", options->dtype, "of the fast tier")
      ->check(CLI::IsMember({"f16", "f32"}))
      ->capture_default_str();
  alisa->add_option("--store", options->store, "where the slow tier lies")
      ->check(CLI::IsMember({"memory", "disk"}))
      ->capture_default_str();
  alisa->add_option("--html", options->html, "write a page with every step to this file");
  alisa->add_flag("--json", options->json, "print one JSON object");
  alisa->add_flag("-q,--quiet", options->quiet, "no progress");
  alisa->footer(
      "Example:\n  mneme profile alisa --file book.txt --tokens 1088 --capacity 576 --html "
      "tiers.html");
  alisa->callback([options, &action] { action = [options] { return profile(*options); }; });
}

}  // namespace mneme::app
