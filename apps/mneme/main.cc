// mneme: run a language model under a memory you choose. One file a subcommand; this one parses,
// dispatches and turns every failure into one line and an exit code.
#include <exception>
#include <iostream>
#include <new>

#include "apps/mneme/command.h"
#include "mneme/core/error.h"

namespace mneme::app {
namespace {

int run(int argc, char** argv) {
  CLI::App app{
      "Mneme: run a language model under a memory you choose, and compare memories side by side."};
  app.require_subcommand(1);
  app.set_version_flag("--version", MNEME_VERSION);
  app.footer(
      "Example:\n  mneme run --memory q4 --prompt 'The capital of France is'\nHelp on one command: "
      "mneme run --help");
  Action action;
  for (const auto add :
       {add_run, add_chat, add_compare, add_plan, add_weights, add_heads, add_train, add_profile,
        add_list, add_explain, add_inspect, add_tokenize, add_check}) {
    add(app, action);
  }
  return run_command(app, argc, argv, action);
}

}  // namespace
}  // namespace mneme::app

int main(int argc, char** argv) {
  try {
    return mneme::app::run(argc, argv);
  } catch (const mneme::Error& error) {
    std::cerr << "mneme: " << error.what() << std::endl;
  } catch (const std::bad_alloc&) {
    std::cerr
        << "mneme: out of memory; `mneme plan` tells what a model, a context and a memory need"
        << std::endl;
  } catch (const std::exception& error) {
    std::cerr << "mneme: internal error: " << error.what() << std::endl;
    return 1;
  }
  return mneme::app::kBadInput;
}
