// mneme train: hands over to mneme-train, which needs torch and stands beside this program where it was
// built. This one starts without torch, everywhere.
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <iostream>

#include "apps/mneme/command.h"
#include "mneme/core/error.h"

namespace mneme::app {
namespace {

int hand_over(const std::vector<std::string>& arguments) {
  std::error_code ignored;
  const auto own = std::filesystem::read_symlink("/proc/self/exe", ignored);
  const std::string program = (own.parent_path() / "mneme-train").string();
  std::vector<char*> argv = {const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  execv(program.c_str(), argv.data());
  MNEME_CHECK(errno == ENOENT, program, ": ", std::strerror(errno));
  fail("training needs torch, which this build was made without (", program,
       " is not there): run tools/install_torch.sh and build again");
}

}  // namespace

void add_train(CLI::App& app, Action& action) {
  CLI::App* command =
      app.add_subcommand("train", "Train parts of a memory beside a frozen model (needs torch)");
  command->prefix_command();
  command->set_help_flag();  // the other program's
  command->callback([command, &action] {
    action = [arguments = command->remaining()] { return hand_over(arguments); };
  });
}

}  // namespace mneme::app
