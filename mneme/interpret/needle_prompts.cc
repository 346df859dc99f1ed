#include "mneme/interpret/needle_prompts.h"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include "mneme/core/error.h"
#include "mneme/core/rng.h"

namespace mneme {
namespace {

constexpr double kOverlap = 0.9;

constexpr std::array<std::string_view, 12> kBeginnings = {
    "Varn", "Osk", "Teld", "Mir", "Quell", "Brem", "Sol", "Hax", "Ulm", "Fen", "Drav", "Yor"};
constexpr std::array<std::string_view, 8> kEndings = {"holt", "ivar", "enau", "bridge",
                                                      "mora", "stad", "wick", "ania"};
constexpr std::array<std::string_view, 8> kLooks = {"copper", "wooden", "purple", "frozen",
                                                    "hollow", "velvet", "marble", "rusty"};
constexpr std::array<std::string_view, 12> kObjects = {"flute",   "camel",   "helmet",  "teapot",
                                                       "compass", "violin",  "lantern", "mask",
                                                       "anchor",  "whistle", "saddle",  "crown"};
constexpr std::array<std::string_view, 8> kStates = {
    "wrapped in",   "filled with", "hidden under",  "tied to",
    "painted with", "covered by",  "buried beside", "traded for"};
constexpr std::array<std::string_view, 12> kCompanions = {
    "green silk",    "old honey",     "nine feathers", "a sleeping owl",
    "broken plates", "lemon juice",   "a blue ladder", "seven candles",
    "melted snow",   "a paper whale", "wild garlic",   "two silver spoons"};

static_assert(kBeginnings.size() * kEndings.size() == kMostNeedles);

template <size_t N>
std::string_view pick(const std::array<std::string_view, N>& words, Rng& rng) {
  return words[static_cast<size_t>(rng.below(static_cast<int64_t>(N)))];
}

void append(std::vector<int32_t>& to, std::span<const int32_t> tokens) {
  to.insert(to.end(), tokens.begin(), tokens.end());
}

}  // namespace

TokenSpan find_needle(std::span<const int32_t> prompt, std::span<const int32_t> needle) {
  MNEME_CHECK(!needle.empty(), "needle: no tokens to look for");
  MNEME_CHECK(needle.size() <= prompt.size(), "needle: ", needle.size(),
              " tokens do not fit a prompt of ", prompt.size());
  const std::set<int32_t> wanted(needle.begin(), needle.end());
  const auto size = needle.size();
  for (size_t first = 0; first + size <= prompt.size(); ++first) {
    const auto window = prompt.subspan(first, size);
    std::set<int32_t> shared;
    for (const int32_t token : window)
      if (wanted.contains(token)) shared.insert(token);
    if (static_cast<double>(shared.size()) > kOverlap * static_cast<double>(wanted.size()))
      return {static_cast<int64_t>(first), static_cast<int64_t>(first + size)};
  }
  return {};
}

Insertion plan_insertion(std::span<const int32_t> context, int64_t needle_tokens,
                         int64_t context_length, int64_t buffer, double depth,
                         std::span<const int32_t> periods) {
  MNEME_CHECK(depth >= 0 && depth <= 100, "needle: a depth is 0 to 100 percent, got ", depth);
  MNEME_CHECK(needle_tokens > 0 && buffer >= 0, "needle: ", needle_tokens,
              " tokens and a buffer of ", buffer);
  const int64_t room = context_length - buffer - needle_tokens;
  MNEME_CHECK(room >= 0, "needle: a context of ", context_length, " tokens less a buffer of ",
              buffer, " has no room for a needle of ", needle_tokens);
  Insertion place{.length = std::min(std::ssize(context), room)};
  if (depth == 100) {
    place.at = place.length;
    return place;
  }
  place.at = static_cast<int64_t>(static_cast<double>(place.length) * depth / 100);
  while (place.at > 0 &&
         std::ranges::find(periods, context[static_cast<size_t>(place.at - 1)]) == periods.end())
    --place.at;
  return place;
}

std::vector<int32_t> period_tokens(const Tokenizer& tokenizer) {
  std::vector<int32_t> ids;
  for (int64_t id = 0; id < tokenizer.vocabulary_size(); ++id) {
    if (tokenizer.piece(static_cast<int32_t>(id)).ends_with('.'))
      ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

std::vector<Needle> treasure_needles(int64_t count, uint64_t seed, int64_t first) {
  MNEME_CHECK(count > 0 && first >= 0 && count <= kMostNeedles - first, "needles: expected 1 to ",
              kMostNeedles - first, " behind the first ", first, ", got ", count);
  std::array<int64_t, kMostNeedles> places;
  for (int64_t i = 0; i < kMostNeedles; ++i) places[static_cast<size_t>(i)] = i;
  Rng rng(seed);
  for (size_t i = 0; i + 1 < places.size(); ++i)
    std::swap(
        places[i],
        places[i + static_cast<size_t>(rng.below(std::ssize(places) - static_cast<int64_t>(i)))]);
  std::set<std::string> answers;
  std::vector<Needle> needles;
  for (int64_t i = 0; i < first + count; ++i) {
    const auto place = static_cast<size_t>(places[static_cast<size_t>(i)]);
    Needle needle{
        .place = concat(kBeginnings[place / kEndings.size()], kEndings[place % kEndings.size()])};
    needle.prefix = concat("The hidden treasure of ", needle.place, " is");
    do {
      needle.answer = concat(" a ", pick(kLooks, rng), " ", pick(kObjects, rng), " ",
                             pick(kStates, rng), " ", pick(kCompanions, rng));
    } while (!answers.insert(needle.answer).second);
    if (i >= first) needles.push_back(std::move(needle));
  }
  return needles;
}

std::vector<NeedlePrompt> needle_prompts(const Tokenizer& tokenizer,
                                         std::span<const Needle> needles,
                                         const std::string& haystack,
                                         const NeedlePromptOptions& options) {
  MNEME_CHECK(!needles.empty() && !options.context_lengths.empty() && !options.depths.empty(),
              "needle: at least one needle, length and depth are needed");
  const std::vector<int32_t> periods = period_tokens(tokenizer);
  const std::vector<int32_t> hay = tokenizer.encode(haystack);
  MNEME_CHECK(!hay.empty(), "needle: no text to hide in");
  std::vector<int64_t> starts;  // of sentences
  for (int64_t i = 1; i < std::ssize(hay); ++i)
    if (std::ranges::binary_search(periods, hay[static_cast<size_t>(i - 1)])) starts.push_back(i);
  if (starts.empty()) starts = {0};

  std::vector<NeedlePrompt> prompts;
  for (size_t n = 0; n < needles.size(); ++n) {
    const Needle& needle = needles[n];
    const std::vector<int32_t> sentence =
        tokenizer.encode(" " + needle.prefix + needle.answer + ".");
    // The real needle's tokens are those behind the stem's in the encoding of both together.
    const std::string question =
        "\n\nBased on the content of the book, Question: What is the hidden treasure of " +
        needle.place + "?\nAnswer: " + needle.prefix;
    std::vector<int32_t> stem = tokenizer.encode(question);
    const std::vector<int32_t> both = tokenizer.encode(question + needle.answer);
    const auto split = std::ranges::mismatch(stem, both).in2;
    const std::vector<int32_t> answer(split, both.end());
    stem.assign(both.begin(), split);
    MNEME_CHECK(!answer.empty(), "needle: the tokenizer gives the answer no tokens of its own");
    const int64_t start = starts[n * starts.size() / needles.size()];
    for (const int64_t length : options.context_lengths) {
      std::vector<int32_t> context;
      for (int64_t i = start; std::ssize(context) < length; ++i)
        context.push_back(hay[static_cast<size_t>(i % std::ssize(hay))]);
      for (const double depth : options.depths) {
        const Insertion place =
            plan_insertion(context, std::ssize(sentence), length, options.buffer, depth, periods);
        NeedlePrompt prompt{.needle = answer, .context_length = length, .depth = depth};
        if (tokenizer.adds_bos() && tokenizer.bos() >= 0) prompt.tokens = {tokenizer.bos()};
        const std::span<const int32_t> used(context.data(), static_cast<size_t>(place.length));
        append(prompt.tokens, used.first(static_cast<size_t>(place.at)));
        append(prompt.tokens, sentence);
        append(prompt.tokens, used.subspan(static_cast<size_t>(place.at)));
        const auto exact = std::ranges::search(prompt.tokens, answer);
        const int64_t at = exact.begin() - prompt.tokens.begin();
        prompt.span = exact.empty() ? find_needle(prompt.tokens, answer)
                                    : TokenSpan{at, at + std::ssize(answer)};
        MNEME_CHECK(prompt.span.found(), "needle: '", needle.answer,
                    "' is not found again among the tokens of its prompt");
        append(prompt.tokens, stem);
        prompts.push_back(std::move(prompt));
      }
    }
  }
  return prompts;
}

}  // namespace mneme
