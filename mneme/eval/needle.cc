#include "mneme/eval/needle.h"

#include "mneme/core/rng.h"
#include "mneme/eval/recall_text.h"

namespace mneme {
namespace {

constexpr const char* kIntro =
    "One fact in the text below matters more than all the others: a pass key. Remember it, for "
    "there is a question about it at the end.\n\n";
constexpr const char* kQuestion = "\n\nWhat is the pass key? The pass key is";

}  // namespace

std::vector<RecallCase> needle_cases(const Tokenizer& tokenizer, const RecallOptions& options) {
  check_recall_options("needle", options, true);
  const std::vector<int32_t> filler = recall_filler(tokenizer, options);
  Rng rng(options.seed);
  std::vector<RecallCase> cases;
  for (const int64_t length : options.lengths) {
    for (const double depth : options.depths) {
      const std::string key = std::to_string(10000 + rng.below(90000));
      const std::string needle =
          " The pass key is " + key + ". Remember it: " + key + " is the pass key.";
      RecallCase recall = recall_case(
          "needle", tokenizer,
          {.intro = kIntro, .hidden = {{depth, needle}}, .question = kQuestion, .answer = key},
          filler, length);
      recall.depth = depth;
      recall.parts = {key};
      cases.push_back(std::move(recall));
    }
  }
  return cases;
}

}  // namespace mneme
