// mneme profile: what a memory has to know about a model before it can run on it.
#include "apps/mneme/profile.h"

namespace mneme::app {

void add_profile(CLI::App& app, Action& action) {
  CLI::App* profiles =
      app.add_subcommand("profile", "Measure what a memory has to know about a model");
  profiles->require_subcommand(1);
  profiles->footer(
      "Example:\n  mneme profile hylra --file book.txt --out smollm2.hylra.json\n"
      "  mneme profile alisa --file book.txt --tokens 1088 --capacity 576");
  add_profile_hylra(*profiles, action);
  add_profile_alisa(*profiles, action);
}

}  // namespace mneme::app
