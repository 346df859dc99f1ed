#include "mneme/eval/variable_tracking.h"

#include <set>
#include <string>

#include "mneme/core/error.h"
#include "mneme/core/rng.h"
#include "mneme/eval/recall_text.h"

namespace mneme {
namespace {

constexpr const char* kIntro =
    "Variables are given values in the text below. Remember which variable holds which value, for "
    "there is a question about it at the end.\n\n";

// Names and values that no other of one case has.
class Names {
 public:
  explicit Names(Rng& rng) : rng_(rng) {}
  std::string variable() {
    return fresh([&] {
      std::string name;
      for (int i = 0; i < 3; ++i) name += static_cast<char>('A' + rng_.below(26));
      return name;
    });
  }
  std::string value() {
    return fresh([&] { return std::to_string(10000 + rng_.below(90000)); });
  }

 private:
  template <typename Draw>
  std::string fresh(const Draw& draw) {
    std::string name = draw();
    while (!used_.insert(name).second) name = draw();
    return name;
  }
  Rng& rng_;
  std::set<std::string> used_;
};

}  // namespace

std::vector<RecallCase> variable_tracking_cases(const Tokenizer& tokenizer,
                                                const RecallOptions& options,
                                                const ChainOptions& chain) {
  check_recall_options("vartrack", options, true);
  MNEME_CHECK(chain.chains >= 1 && chain.chains <= 8, "vartrack: expected 1 to 8 chains, got ",
              chain.chains);
  MNEME_CHECK(chain.hops >= 1 && chain.hops <= 8, "vartrack: expected 1 to 8 hops, got ",
              chain.hops);
  const std::vector<int32_t> filler = recall_filler(tokenizer, options);
  Rng rng(options.seed);
  std::vector<RecallCase> cases;
  for (const int64_t length : options.lengths) {
    for (const double depth : options.depths) {
      Names names(rng);
      RecallText text{.intro = kIntro};
      std::vector<std::string> parts;
      for (int64_t i = 0; i < chain.chains; ++i) {
        const double first = i == 0 ? depth
                                    : (static_cast<double>(i) - 0.5) /
                                          static_cast<double>(chain.chains - 1) /
                                          static_cast<double>(chain.hops + 1);
        const std::string value = names.value();
        std::string holds = value;
        for (int64_t hop = 0; hop <= chain.hops; ++hop) {
          const std::string name = names.variable();
          const double share = static_cast<double>(hop) / static_cast<double>(chain.hops + 1);
          text.hidden.push_back(
              {first + (1 - first) * share, " VAR " + name + " = " + holds + "."});
          holds = name;
          if (i > 0) continue;
          text.answer += (hop > 0 ? ", VAR " : "") + name;
          parts.push_back(name);
        }
        if (i == 0)
          text.question = "\n\nWhich variables hold the value " + value +
                          "? In the order of their assignment, the variables that hold the value " +
                          value + " are VAR";
      }
      RecallCase recall = recall_case("vartrack", tokenizer, text, filler, length);
      recall.depth = depth;
      recall.parts = std::move(parts);
      cases.push_back(std::move(recall));
    }
  }
  return cases;
}

}  // namespace mneme
