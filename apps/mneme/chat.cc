// mneme chat: a conversation in the terminal. What the memory already holds is never run again;
// after each answer the line below it says what was reused and what the memory takes.
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <optional>

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
  std::string system, budget;
  std::string memory = "full";
  bool json = false, quiet = false;
};

constexpr const char* kHelp =
    "/memory   what the memory holds\n/history  the conversation so far\n/reset    begin "
    "anew\n/quit     leave (or Ctrl-D)\n";

class Conversation {
 public:
  Conversation(const Options& options, Engine& engine) : options_(options), engine_(engine) {
    reset();
  }

  void reset() {
    const int64_t budget = options_.budget.empty() ? 0 : parse_bytes(options_.budget);
    session_.emplace(engine_.model(), engine_.pool(), engine_.make_memory(options_.memory, budget));
    messages_.clear();
    if (!options_.system.empty()) messages_.push_back({"system", options_.system});
  }

  void answer(const std::string& line) {
    messages_.push_back({"user", line});
    try {
      const std::vector<int32_t> prompt = engine_.encode_chat(messages_);
      start_over_if_untrimmable(prompt);
      Progress progress("prompt", "tokens", static_cast<int64_t>(prompt.size()),
                        prompt.size() > 256 ? progress_style(options_.quiet || options_.json)
                                            : Progress::Style::kQuiet);
      const Generation result = generate(
          *session_, engine_.tokenizer(), prompt, options_.generate,
          [&](std::string_view piece) {
            if (!options_.json) std::cout << piece << std::flush;
            return !interrupted();
          },
          [&](int64_t done, int64_t) {
            progress.update(done, "memory " + bytes_text(session_->memory().resident_bytes()));
            return !interrupted();
          });
      messages_.push_back({"assistant", result.text});
      report(result);
    } catch (const Error& error) {  // this turn failed; the conversation goes on without it
      messages_.pop_back();
      std::cerr << "mneme: " << error.what() << std::endl;
    }
  }

  void show_memory() const {
    const SequenceMemory& memory = session_->memory();
    std::cout << memory.spec() << ": " << memory.seen_tokens() << " tokens, "
              << bytes_text(memory.resident_bytes()) << " resident, "
              << bytes_text(memory.peak_bytes()) << " at its peak, "
              << bytes_text(memory.logical_bytes()) << " as an f16 cache\n";
  }

  void show_history() const {
    for (const ChatMessage& message : messages_)
      std::cout << message.role << ": " << message.content << "\n";
  }

 private:
  // A window that has passed cannot be trimmed back to: then the whole conversation is run again,
  // and said so.
  void start_over_if_untrimmable(const std::vector<int32_t>& prompt) {
    const auto [ours, theirs] = std::ranges::mismatch(session_->tokens(), prompt);
    int64_t common = ours - session_->tokens().begin();
    if (theirs == prompt.end()) --common;
    if (common >= static_cast<int64_t>(session_->tokens().size())) return;
    const std::string reason = session_->memory().cannot_trim_to(common);
    if (reason.empty()) return;
    std::cerr << "mneme: running the conversation again: " << reason << std::endl;
    const auto messages = messages_;
    reset();
    messages_ = messages;
  }

  void report(const Generation& result) const {
    if (options_.json) {
      std::cout << nlohmann::ordered_json({{"text", result.text},
                                           {"stop", stop_reason_name(result.stop)},
                                           {"prompt_tokens", result.prompt_tokens},
                                           {"reused_tokens", result.reused_tokens},
                                           {"prefill_tokens_per_s", result.prefill_rate()},
                                           {"decode_tokens_per_s", result.decode_rate()},
                                           {"memory", memory_json(session_->memory())}})
                       .dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace)
                << std::endl;
      return;
    }
    std::cout << std::endl;
    if (options_.quiet) return;
    std::fprintf(
        stderr, "[%lld of %lld prompt tokens reused, %.1f tokens/s, memory %s in %s, %s as f16]\n",
        static_cast<long long>(result.reused_tokens), static_cast<long long>(result.prompt_tokens),
        result.decode_rate(), bytes_text(session_->memory().resident_bytes()).c_str(),
        session_->memory().spec().c_str(), bytes_text(session_->memory().logical_bytes()).c_str());
  }

  const Options& options_;
  Engine& engine_;
  std::optional<Session> session_;
  std::vector<ChatMessage> messages_;
};

int chat(const Options& options) {
  const auto engine = options.model.open();
  MNEME_CHECK(engine->chat_template() != nullptr, engine->path(),
              ": the model has no chat template; use `mneme run`");
  Conversation conversation(options, *engine);
  if (!options.quiet && !options.json)
    std::cerr << "Chat under memory " << options.memory << ". /help lists the commands.\n";
  std::string line;
  for (;;) {
    if (!options.json) std::cout << "> " << std::flush;
    if (!std::getline(std::cin, line) || line == "/quit") break;
    if (line.empty()) continue;
    if (line == "/help") {
      std::cout << kHelp;
    } else if (line == "/memory") {
      conversation.show_memory();
    } else if (line == "/history") {
      conversation.show_history();
    } else if (line == "/reset") {
      conversation.reset();
    } else {
      conversation.answer(line);
      if (interrupted()) return 130;
    }
  }
  return 0;
}

}  // namespace

void add_chat(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  options->generate.max_tokens = 512;
  CLI::App* command =
      app.add_subcommand("chat", "Talk with the model in the terminal and watch its memory");
  options->model.add_with_weights_to(*command);
  command->add_option("--memory", options->memory, "memory spec, see `mneme list`")
      ->capture_default_str();
  command->add_option("--budget", options->budget,
                      "refuse to hold more memory than this, as 64MiB");
  command->add_option("--system", options->system, "system message");
  command->add_flag("--json", options->json, "one JSON object a turn, one line each");
  command->add_flag("-q,--quiet", options->quiet, "answers only");
  add_generation_options(*command, options->generate);
  command->footer("Example:\n  mneme chat --memory q8 --temperature 0.7");
  command->callback([options, &action] { action = [options] { return chat(*options); }; });
}

}  // namespace mneme::app
