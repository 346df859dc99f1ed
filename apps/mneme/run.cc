// mneme run: one prompt, answered under one memory.
#include <cstdio>
#include <iostream>

#include "apps/mneme/command.h"
#include "apps/mneme/generation_options.h"
#include "apps/mneme/memory_json.h"
#include "mneme/core/error.h"
#include "mneme/runtime/generate.h"

namespace mneme::app {
namespace {

struct Options {
  ModelOptions model;
  GenerateOptions generate;
  std::string prompt, file, system;
  std::string memory = "full";
  std::string budget;
  bool chat = false, json = false, quiet = false;
};

// Whether this memory can serve the model at all, and its settled bytes stay within the budget.
bool fits(const Engine& engine, const char* spec, int64_t tokens, int64_t budget) {
  try {
    return engine.make_memory(spec)->predict_bytes(tokens) <= budget;
  } catch (const Error&) {  // a format whose groups do not divide the head size
    return false;
  }
}

// Refuses a prompt that the memory or its budget cannot hold, before any work, and names those that
// could.
void check_fits(const Engine& engine, const SequenceMemory& memory, int64_t tokens,
                int64_t budget) {
  const StepPlan plan = memory.plan(tokens);
  MNEME_CHECK(!plan.out_of_reach, "the prompt has ", tokens, " tokens: ", plan.refusal);
  if (budget == 0) return;
  const int64_t settled = memory.predict_bytes(tokens);
  if (settled <= budget) return;
  std::string fitting;
  for (const char* spec :
       {"q8", "q4", "sliding(window=1024,sink=4)", "sliding(window=512,sink=4)+q4"}) {
    if (fits(engine, spec, tokens, budget)) {
      fitting += concat(fitting.empty() ? "" : ", ", "'", spec, "'");
    }
  }
  fail("memory ", memory.spec(), " would take ", bytes_text(settled), " for ", tokens,
       " tokens, more than the budget of ", bytes_text(budget),
       fitting.empty() ? "; no memory known here fits" : "; these would fit: " + fitting);
}

int run(const Options& options) {
  const std::string text = read_prompt(options.prompt, options.file);
  const int64_t budget = options.budget.empty() ? 0 : parse_bytes(options.budget);
  const auto engine = options.model.open();
  auto memory = engine->make_memory(options.memory, budget);
  std::vector<ChatMessage> messages;
  if (!options.system.empty()) messages.push_back({"system", options.system});
  messages.push_back({"user", text});
  const std::vector<int32_t> prompt =
      options.chat ? engine->encode_chat(messages) : engine->encode_prompt(text);
  MNEME_CHECK(!prompt.empty(), "the prompt is empty");
  check_fits(*engine, *memory, static_cast<int64_t>(prompt.size()), budget);

  Session session(engine->model(), engine->pool(), std::move(memory));
  Generation result;
  {
    Progress progress("prompt", "tokens", static_cast<int64_t>(prompt.size()),
                      progress_style(options.quiet || options.json));
    const auto on_progress = [&](int64_t done, int64_t) {
      progress.update(done, "memory " + bytes_text(session.memory().resident_bytes()));
      return !interrupted();
    };
    const TextSink sink = [&](std::string_view piece) {
      if (!options.json) {
        std::cout << piece << std::flush;
        MNEME_CHECK(static_cast<bool>(std::cout), "standard output: cannot be written");
      }
      return !interrupted();
    };
    result = generate(session, engine->tokenizer(), prompt, options.generate, sink, on_progress);
  }
  if (options.json) {
    const nlohmann::ordered_json json = {{"text", result.text},
                                         {"tokens", result.tokens},
                                         {"stop", stop_reason_name(result.stop)},
                                         {"prompt_tokens", result.prompt_tokens},
                                         {"reused_tokens", result.reused_tokens},
                                         {"prefill_tokens_per_s", result.prefill_rate()},
                                         {"decode_tokens_per_s", result.decode_rate()},
                                         {"memory", memory_json(session.memory())},
                                         {"weights", weights_json(engine->model())}};
    std::cout << json_text(json) << "\n";
  } else {
    std::cout << "\n" << std::flush;
    if (!options.quiet) {
      std::fprintf(
          stderr,
          "%lld prompt tokens at %.1f/s, %zu generated at %.1f/s (%s); memory %s: %s resident, %s "
          "as f16\n",
          static_cast<long long>(result.prompt_tokens), result.prefill_rate(), result.tokens.size(),
          result.decode_rate(), std::string(stop_reason_name(result.stop)).c_str(),
          session.memory().spec().c_str(), bytes_text(session.memory().resident_bytes()).c_str(),
          bytes_text(session.memory().logical_bytes()).c_str());
    }
  }
  return interrupted() ? 130 : 0;
}

}  // namespace

void add_run(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("run", "Answer one prompt under one memory");
  options->model.add_with_weights_to(*command);
  command->add_option("-p,--prompt", options->prompt, "the prompt");
  command->add_option("-f,--file", options->file,
                      "read the prompt from a file, '-': standard input");
  command->add_option("--memory", options->memory, "memory spec, see `mneme list`")
      ->capture_default_str();
  command->add_option("--budget", options->budget,
                      "refuse to hold more memory than this, as 64MiB");
  command->add_flag("--chat", options->chat, "wrap the prompt in the model's chat template");
  command->add_option("--system", options->system, "system message, with --chat");
  command->add_flag("--json", options->json, "print one JSON object");
  command->add_flag("-q,--quiet", options->quiet, "no progress, no summary");
  add_generation_options(*command, options->generate);
  command->footer(
      "Example:\n  mneme run --memory 'sliding(window=512,sink=4)+q8' --file book.txt -n 64");
  command->callback([options, &action] { action = [options] { return run(*options); }; });
}

}  // namespace mneme::app
