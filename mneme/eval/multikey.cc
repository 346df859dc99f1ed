#include "mneme/eval/multikey.h"

#include <array>
#include <set>
#include <string>
#include <utility>

#include "mneme/core/error.h"
#include "mneme/core/rng.h"
#include "mneme/eval/recall_text.h"

namespace mneme {
namespace {

constexpr const char* kIntro =
    "The text below hides several pass keys, each with the name of what it opens. Remember them, "
    "for there is a question about one of them at the end.\n\n";
constexpr std::array<const char*, 16> kNames = {
    "harbour", "cellar", "archive", "theatre", "greenhouse", "vault", "attic",  "lighthouse",
    "stable",  "museum", "chapel",  "bakery",  "tower",      "depot", "office", "workshop"};

}  // namespace

std::vector<RecallCase> multikey_cases(const Tokenizer& tokenizer, const RecallOptions& options,
                                       int64_t keys) {
  check_recall_options("multikey", options, true);
  MNEME_CHECK(keys >= 2 && keys <= std::ssize(kNames), "multikey: expected 2 to ", kNames.size(),
              " keys, got ", keys);
  const std::vector<int32_t> filler = recall_filler(tokenizer, options);
  Rng rng(options.seed);
  std::vector<RecallCase> cases;
  for (const int64_t length : options.lengths) {
    for (const double depth : options.depths) {
      auto names = kNames;
      std::set<std::string> keys_used;
      RecallText text{.intro = kIntro};
      for (int64_t i = 0; i < keys; ++i) {
        const auto place = static_cast<size_t>(i);
        std::swap(names[place], names[static_cast<size_t>(i + rng.below(std::ssize(names) - i))]);
        const std::string name = names[place];
        std::string key = std::to_string(10000 + rng.below(90000));
        while (!keys_used.insert(key).second) key = std::to_string(10000 + rng.below(90000));
        text.hidden.push_back(
            {i == 0 ? depth : (static_cast<double>(i) - 0.5) / static_cast<double>(keys - 1),
             " The pass key of the " + name + " is " + key + "."});
        if (i > 0) continue;
        text.question =
            "\n\nWhat is the pass key of the " + name + "? The pass key of the " + name + " is";
        text.answer = key;
      }
      RecallCase recall = recall_case("multikey", tokenizer, text, filler, length);
      recall.depth = depth;
      recall.parts = {text.answer};
      cases.push_back(std::move(recall));
    }
  }
  return cases;
}

}  // namespace mneme
