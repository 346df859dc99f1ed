// mneme heads: which attention heads do what, and what happens without them.
#include "apps/mneme/heads.h"

namespace mneme::app {

void add_heads(CLI::App& app, Action& action) {
  CLI::App* heads =
      app.add_subcommand("heads",
                         "Find the attention heads that copy from the context, or that "
                         "decide between context and memory");
  heads->require_subcommand(1);
  heads->footer("Example:\n  mneme heads retrieval --out heads.jsonl --html heads.html");
  add_heads_retrieval(*heads, action);
  add_heads_conflict(*heads, action);
}

}  // namespace mneme::app
