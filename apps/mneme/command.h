// What the subcommands share: each registers itself with the argument parser and leaves the work in
// `action`, which returns the exit code. Exit codes: 0 done, 2 bad input or a fault of the
// environment (one line on stderr says which), 130 interrupted.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "mneme/core/progress.h"
#include "mneme/io/atomic_file.h"
#include "mneme/runtime/engine.h"

namespace mneme::app {

using Action = std::function<int()>;

inline constexpr int kBadInput = 2;

// One function a subcommand, each in the file of its name.
void add_run(CLI::App& app, Action& action);
void add_chat(CLI::App& app, Action& action);
void add_compare(CLI::App& app, Action& action);
void add_plan(CLI::App& app, Action& action);
void add_weights(CLI::App& app, Action& action);
void add_heads(CLI::App& app, Action& action);
void add_train(CLI::App& app, Action& action);
void add_list(CLI::App& app, Action& action);
void add_explain(CLI::App& app, Action& action);
void add_inspect(CLI::App& app, Action& action);
void add_tokenize(CLI::App& app, Action& action);
void add_check(CLI::App& app, Action& action);
void add_profile(CLI::App& app, Action& action);

// Parses, runs the action that was chosen and flushes what it printed. Returns the exit code; throws
// Error where standard output cannot be written.
int run_command(CLI::App& app, int argc, char** argv, const Action& action);

// --model and --threads, as every command that runs a model takes them.
struct ModelOptions {
  std::string model;
  int threads = 0;
  bool copy = false;
  std::string weights = "file";

  void add_to(CLI::App& command);
  // --weights too, for commands that run the model.
  void add_with_weights_to(CLI::App& command);
  // Opens the model; without --model takes MNEME_MODEL from the environment, then the file that
  // `make demo` fetches.
  std::unique_ptr<Engine> open() const;
};

// The text of a prompt: --prompt, or the content of --file ("-": standard input). Throws Error when
// both or none are given.
std::string read_prompt(const std::string& prompt, const std::string& file);

// A file that a command writes at its end, opened at its beginning: one that cannot be written is
// found out before the work, not after it. An empty path promises nothing.
class PromisedFile {
 public:
  explicit PromisedFile(const std::string& path) {
    if (!path.empty()) file_.emplace(path);
  }
  explicit operator bool() const { return file_.has_value(); }
  // Puts the text in its place; nothing where nothing was promised.
  void save(std::string_view text) {
    if (!file_) return;
    file_->write(text.data(), static_cast<int64_t>(text.size()));
    file_->commit();
  }

 private:
  std::optional<AtomicFile> file_;
};

// "64MiB", "1.5GiB", "500000" -> bytes. Throws Error naming what is accepted.
int64_t parse_bytes(const std::string& text);

// A bar on a terminal, lines in a log, nothing with --quiet or --json.
Progress::Style progress_style(bool quiet);

// True once Ctrl-C was pressed; a second one ends the process at once.
bool interrupted();
void watch_interrupts();

}  // namespace mneme::app
