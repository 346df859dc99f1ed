#include "mneme/eval/haystack.h"

#include <array>
#include <span>
#include <string_view>

#include "mneme/core/error.h"

namespace mneme {
namespace {

using Words = std::span<const std::string_view>;

constexpr std::array<std::string_view, 16> kPeople = {
    "the baker",         "Mrs. Hollis",   "the postman",    "Anton",
    "the schoolteacher", "old Ferris",    "the ferryman",   "Clara",
    "the gardener",      "young Petra",   "the watchmaker", "the mayor",
    "the innkeeper",     "the librarian", "Doctor Weems",   "the twins"};
constexpr std::array<std::string_view, 14> kDeeds = {"repaired the garden gate",
                                                     "painted a row of chairs",
                                                     "carried apples to the market",
                                                     "sorted a drawer of buttons",
                                                     "wrote a letter to a cousin",
                                                     "planted beans along the wall",
                                                     "swept the square before breakfast",
                                                     "lost a glove near the fountain",
                                                     "tuned the piano in the hall",
                                                     "counted the pigeons on the roof",
                                                     "borrowed a ladder for the afternoon",
                                                     "polished every window of the station",
                                                     "looked for a missing umbrella",
                                                     "baked more bread than anyone could eat"};
constexpr std::array<std::string_view, 12> kPlaces = {
    "by the river",           "behind the church",
    "in the upper street",    "near the old mill",
    "outside the tea room",   "at the edge of the orchard",
    "beside the canal",       "under the arcade",
    "across from the school", "on the way to the station",
    "in the yard of the inn", "close to the stone bridge"};
constexpr std::array<std::string_view, 12> kTimes = {"On Monday",
                                                     "In the early morning",
                                                     "After lunch",
                                                     "Late in the evening",
                                                     "Before the rain",
                                                     "During the fair",
                                                     "At the end of the week",
                                                     "Around noon",
                                                     "One quiet afternoon",
                                                     "Shortly before dusk",
                                                     "When the shops had closed",
                                                     "In the first days of spring"};
constexpr std::array<std::string_view, 12> kRemarks = {"nobody gave it a second thought",
                                                       "the neighbours talked about it for days",
                                                       "the dog slept through all of it",
                                                       "it turned out better than expected",
                                                       "the weather stayed mild",
                                                       "a few children stopped to watch",
                                                       "the bells rang a little late",
                                                       "everything smelled of fresh hay",
                                                       "there was tea for everyone afterwards",
                                                       "the work took longer than planned",
                                                       "a light wind came up from the south",
                                                       "the lamps were lit one by one"};
constexpr std::array<std::string_view, 10> kThings = {
    "wooden boat", "clock tower",    "blue bicycle", "kitchen table", "brass lantern",
    "rose garden", "row of poplars", "market stall", "green bench",   "narrow staircase"};
constexpr std::array<std::string_view, 10> kQualities = {
    "had seen better years",
    "was admired by every visitor",
    "needed a coat of paint",
    "looked best in the evening light",
    "had been there longer than anyone remembered",
    "belonged to nobody in particular",
    "was the pride of the whole street",
    "had a story of its own",
    "made a good place to rest",
    "was covered with leaves"};

// P person, D deed, L place, T time, R remark, O thing, Q quality.
constexpr std::array<std::string_view, 10> kTemplates = {"T, P D L, and R.",
                                                         "P D L while R.",
                                                         "The O L Q, and R.",
                                                         "T, P said that the O Q.",
                                                         "Although R, P D L.",
                                                         "P and P D together, and R.",
                                                         "T, R, so P D.",
                                                         "People say that the O L Q.",
                                                         "P never D without a reason, yet R.",
                                                         "The O Q; T, P D beside it."};

std::string_view pick(Words words, Rng& rng) {
  return words[static_cast<size_t>(rng.below(static_cast<int64_t>(words.size())))];
}

Words words_for(char slot) {
  switch (slot) {
    case 'P':
      return kPeople;
    case 'D':
      return kDeeds;
    case 'L':
      return kPlaces;
    case 'T':
      return kTimes;
    case 'R':
      return kRemarks;
    case 'O':
      return kThings;
    case 'Q':
      return kQualities;
    default:
      return {};
  }
}

char with_case(char letter, bool upper) {
  if (upper && letter >= 'a' && letter <= 'z') return static_cast<char>(letter - 'a' + 'A');
  return letter;
}

}  // namespace

std::string haystack_sentence(Rng& rng) {
  const std::string_view pattern = pick(kTemplates, rng);
  std::string sentence;
  for (size_t i = 0; i < pattern.size(); ++i) {
    // A slot is a capital that stands alone: the T of "The" and the P of "People" do not.
    const bool alone = i + 1 == pattern.size() || pattern[i + 1] < 'a' || pattern[i + 1] > 'z';
    const Words words = alone ? words_for(pattern[i]) : Words();
    if (words.empty()) {
      sentence += pattern[i];
      continue;
    }
    std::string word(pick(words, rng));
    while (sentence.find(word) != std::string::npos) word = pick(words, rng);
    // "On Monday" inside a sentence is "on Monday".
    if (i > 0 && pattern[i] == 'T') word.front() = static_cast<char>(word.front() - 'A' + 'a');
    sentence += word;
  }
  sentence.front() = with_case(sentence.front(), true);
  return sentence;
}

std::string haystack_text(int64_t characters, uint64_t seed) {
  MNEME_CHECK(characters >= 0, "haystack_text: expected a number of characters, got ", characters);
  Rng rng(seed);
  std::string text;
  while (static_cast<int64_t>(text.size()) < characters) {
    if (!text.empty()) text += "\n\n";
    const int64_t sentences = 3 + rng.below(5);
    for (int64_t i = 0; i < sentences; ++i) {
      if (i > 0) text += ' ';
      text += haystack_sentence(rng);
    }
  }
  return text;
}

}  // namespace mneme
