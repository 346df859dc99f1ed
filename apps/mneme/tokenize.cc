// mneme tokenize: the token ids of a text, and what each stands for.
#include <cstdio>
#include <iostream>

#include "apps/mneme/command.h"
#include "apps/mneme/memory_json.h"

namespace mneme::app {
namespace {

struct Options {
  ModelOptions model;
  std::string text, file;
  bool special = false, json = false;
};

int tokenize(const Options& options) {
  const std::string text = read_prompt(options.text, options.file);
  const auto engine = options.model.open();
  const Tokenizer& tokenizer = engine->tokenizer();
  const std::vector<int32_t> ids =
      tokenizer.encode(text, options.special ? SpecialTokens::kParse : SpecialTokens::kAsText);
  if (options.json) {
    auto pieces = nlohmann::ordered_json::array();
    for (const int32_t id : ids) pieces.push_back(tokenizer.piece(id, true));
    std::cout << json_text({{"count", ids.size()}, {"ids", ids}, {"pieces", pieces}}) << "\n";
    return 0;
  }
  for (const int32_t id : ids) {
    const std::string piece = nlohmann::json(tokenizer.piece(id, true))
                                  .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    std::printf("%7d  %s\n", id, piece.c_str());
  }
  std::printf("%zu tokens\n", ids.size());
  return 0;
}

}  // namespace

void add_tokenize(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("tokenize", "The token ids of a text");
  options->model.add_to(*command);
  command->add_option("text,-p,--prompt", options->text, "the text");
  command->add_option("-f,--file", options->file, "read the text from a file, '-': standard input");
  command->add_flag("--special", options->special,
                    "turn control tokens spelled out in the text into those tokens");
  command->add_flag("--json", options->json, "print {count, ids, pieces}");
  command->footer("Example:\n  mneme tokenize 'Hello, world'");
  command->callback([options, &action] { action = [options] { return tokenize(*options); }; });
}

}  // namespace mneme::app
