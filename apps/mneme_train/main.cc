// mneme-train: what of the command line needs torch; `mneme train ...` runs it.
#include <exception>
#include <iostream>

#include "apps/mneme/command.h"
#include "apps/mneme_train/train_router.h"
#include "mneme/core/error.h"

namespace mneme::app {
namespace {

int run(int argc, char** argv) {
  CLI::App app{"Train parts of a memory beside a frozen model.", "mneme train"};
  app.require_subcommand(1);
  Action action;
  add_train_router(app, action);
  return run_command(app, argc, argv, action);
}

}  // namespace
}  // namespace mneme::app

int main(int argc, char** argv) {
  try {
    return mneme::app::run(argc, argv);
  } catch (const mneme::Error& error) {
    std::cerr << "mneme train: " << error.what() << std::endl;
  } catch (const std::exception& error) {
    std::cerr << "mneme train: internal error: " << error.what() << std::endl;
    return 1;
  }
  return mneme::app::kBadInput;
}
