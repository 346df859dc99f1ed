// mneme-train: what of the command line needs torch; `mneme train ...` runs it.
#include <cstdio>
#include <cstring>
#include <exception>
#include <iostream>

#include "apps/mneme/command.h"
#include "apps/mneme_train/train_router.h"
#include "mneme/core/error.h"

namespace mneme::app {
namespace {

constexpr int kBadInput = 2;

int run(int argc, char** argv) {
  CLI::App app{"Train parts of a memory beside a frozen model.", "mneme train"};
  app.require_subcommand(1);
  Action action;
  add_train_router(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    app.exit(error, std::cout, std::cerr);
    return kBadInput;
  }
  watch_interrupts();
  const int code = action();
  std::cout.flush();
  if (!std::cout || std::fflush(stdout) != 0) fail("standard output: ", std::strerror(errno));
  return code;
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
