#include "mneme/eval/aggregation.h"

#include <array>
#include <string>
#include <utility>

#include "mneme/core/error.h"
#include "mneme/core/rng.h"
#include "mneme/eval/recall_text.h"

namespace mneme {
namespace {

constexpr const char* kIntro =
    "Below is a list of words. Some of them come up much more often than the others. Remember "
    "those, for there is a question about them at the end.\n\nWords:";
constexpr const char* kQuestion =
    "\n\nWhich three words come up most often in the list? The commonest first.\n\nWords:";
constexpr int64_t kFewestWords = 24, kCommon = 3;
constexpr std::array<int64_t, kCommon> kShares = {5, 4, 3};  // of 24
constexpr std::array<const char*, 48> kWords = {
    "apple",  "river",  "candle", "bridge",  "window", "garden", "silver",  "mountain",
    "paper",  "coffee", "horse",  "winter",  "music",  "stone",  "forest",  "kitchen",
    "button", "letter", "island", "ladder",  "yellow", "market", "needle",  "ocean",
    "pencil", "queen",  "rabbit", "shadow",  "ticket", "valley", "wagon",   "bottle",
    "carpet", "doctor", "engine", "feather", "guitar", "hammer", "jacket",  "lemon",
    "mirror", "number", "orange", "pocket",  "ribbon", "sugar",  "thunder", "village"};

template <typename Items>
void shuffle(Items& items, Rng& rng) {
  for (int64_t i = std::ssize(items) - 1; i > 0; --i)
    std::swap(items[static_cast<size_t>(i)], items[static_cast<size_t>(rng.below(i + 1))]);
}

// A list of `count` words, in which words[0], [1] and [2] are the common ones.
std::string word_list(const std::array<const char*, 48>& words, int64_t count, uint64_t seed) {
  Rng rng(seed);
  std::vector<const char*> list;
  for (size_t i = 0; i < kCommon; ++i)
    list.insert(list.end(), static_cast<size_t>(count * kShares[i] / kFewestWords), words[i]);
  while (std::ssize(list) < count)
    list.push_back(words[static_cast<size_t>(kCommon + rng.below(std::ssize(words) - kCommon))]);
  shuffle(list, rng);
  std::string text;
  for (const char* word : list) text += (text.empty() ? " " : ", ") + std::string(word);
  return text + ".";
}

}  // namespace

std::vector<RecallCase> aggregation_cases(const Tokenizer& tokenizer,
                                          const RecallOptions& options) {
  check_recall_options("aggregate", options, false);
  Rng rng(options.seed);
  std::vector<RecallCase> cases;
  for (const int64_t length : options.lengths) {
    auto words = kWords;
    shuffle(words, rng);
    const uint64_t seed = rng.next();
    RecallCase recall{.length = length,
                      .answer = std::string(words[0]) + ", " + words[1] + ", " + words[2],
                      .parts = {words[0], words[1], words[2]}};
    const QuestionTokens end = question_tokens(tokenizer, kQuestion, recall.answer);
    const auto prompt_of = [&](int64_t count) {
      std::vector<int32_t> prompt = intro_tokens(tokenizer, kIntro);
      for (const auto& part : {tokenizer.encode(word_list(words, count, seed)), end.question})
        prompt.insert(prompt.end(), part.begin(), part.end());
      return prompt;
    };
    const auto fewest = std::ssize(prompt_of(kFewestWords));
    MNEME_CHECK(fewest <= length, "aggregate: a prompt has at least ", fewest, " tokens, got ",
                length);
    // The most words that fit: a word and its comma are at least one token.
    int64_t fits = kFewestWords, most = length;
    while (fits < most) {
      const int64_t middle = (fits + most + 1) / 2;
      if (std::ssize(prompt_of(middle)) <= length) {
        fits = middle;
      } else {
        most = middle - 1;
      }
    }
    recall.prompt = prompt_of(fits);
    recall.expected = end.answer;
    cases.push_back(std::move(recall));
  }
  return cases;
}

}  // namespace mneme
