// mneme plan: what a model, a context and a memory will take, part by part, before any of it is
// run.
#include <algorithm>
#include <cstdio>
#include <iostream>

#include "apps/mneme/command.h"
#include "apps/mneme/memory_json.h"
#include "mneme/runtime/session.h"

namespace mneme::app {
namespace {

struct Options {
  ModelOptions model;
  std::vector<std::string> memories = {"full"};
  int64_t tokens = 0;
  int64_t chunk = Session::kDefaultChunk;
  std::string budget;
  bool json = false;
};

struct Part {
  const char* name;
  int64_t bytes;
};

int plan(const Options& options) {
  const auto engine = options.model.open();
  const DecoderModel& model = engine->model();
  const int64_t tokens = options.tokens > 0 ? options.tokens : model.config().context;
  const int64_t budget = options.budget.empty() ? 0 : parse_bytes(options.budget);
  auto reports = nlohmann::ordered_json::array();
  for (const std::string& spec : options.memories) {
    const auto memory = engine->make_memory(spec);
    const int64_t step = std::min(options.chunk, tokens);
    const int64_t memory_bytes = memory->predict_bytes(tokens);
    const std::vector<Part> parts = {{"weights", model.weight_bytes()},
                                     {"memory", memory_bytes},
                                     {"workspace", model.workspace_bytes(step, 1)}};
    int64_t total = 0;
    nlohmann::ordered_json report = {
        {"memory", memory->spec()}, {"tokens", tokens}, {"parts", nlohmann::ordered_json::array()}};
    for (const Part& part : parts) {
      total += part.bytes;
      report["parts"].push_back({{"name", part.name}, {"bytes", part.bytes}});
    }
    const bool held = tokens <= model.config().context || memory->capabilities().beyond_context;
    report["total_bytes"] = total;
    report["weights"] = weights_json(model);
    report["within_context"] = held;
    if (budget > 0) report["fits_budget"] = memory_bytes <= budget;
    if (!options.json) {
      std::cout << memory->spec() << " at " << tokens << " tokens of " << engine->path();
      if (model.linear_form() != "file") std::cout << ", weights " << model.linear_form();
      std::cout << "\n";
      for (const Part& part : parts)
        std::printf("  %-10s %12s\n", part.name, bytes_text(part.bytes).c_str());
      std::printf("  %-10s %12s\n", "total", bytes_text(total).c_str());
      if (!held)
        std::cout << "  beyond the model's context of " << model.config().context
                  << " tokens: this memory refuses them\n";
      if (budget > 0)
        std::cout << (memory_bytes <= budget ? "  fits" : "  does not fit") << " the budget of "
                  << bytes_text(budget) << "\n";
      std::cout << std::flush;
      std::fflush(stdout);
    }
    reports.push_back(std::move(report));
  }
  if (options.json) std::cout << json_text(reports.size() == 1 ? reports[0] : reports) << "\n";
  return 0;
}

}  // namespace

void add_plan(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("plan", "Predict the bytes of model, context and memory before running");
  options->model.add_with_weights_to(*command);
  command->add_option("--memory", options->memories, "memory spec (repeatable)")
      ->allow_extra_args(false)
      ->capture_default_str();
  command
      ->add_option("-t,--tokens", options->tokens,
                   "length of the context (default: all the model was trained for)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30));
  command->add_option("--chunk", options->chunk, "prompt tokens in one step")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  command->add_option("--budget", options->budget, "say whether the memory fits this, as 64MiB");
  command->add_flag("--json", options->json,
                    "print {parts: [{name, bytes}], total_bytes}, an array for several memories");
  command->footer("Example:\n  mneme plan --tokens 8192 --memory full --memory q4 --weights int8");
  command->callback([options, &action] { action = [options] { return plan(*options); }; });
}

}  // namespace mneme::app
