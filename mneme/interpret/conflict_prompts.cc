#include "mneme/interpret/conflict_prompts.h"

#include <algorithm>

#include "mneme/cache/memory_registry.h"
#include "mneme/core/error.h"
#include "mneme/core/rng.h"
#include "mneme/runtime/sampler.h"

namespace mneme {
namespace {

constexpr std::string_view kSlot = "{}";

std::string stem_for(std::string_view stem, std::string_view subject) {
  const size_t at = stem.find(kSlot);
  MNEME_CHECK(at != std::string_view::npos, "conflict prompts: the stem '", stem,
              "' has no {} for the subject");
  return concat(stem.substr(0, at), subject, stem.substr(at + kSlot.size()));
}

// Prompt tokens, the beginning-of-text token in front where the model wants one.
std::vector<int32_t> encode(const Tokenizer& tokenizer, const std::string& text) {
  std::vector<int32_t> tokens = tokenizer.encode(text);
  if (tokenizer.adds_bos() && tokenizer.bos() >= 0) tokens.insert(tokens.begin(), tokenizer.bos());
  return tokens;
}

// The first token of " answer" behind `text`; -1 where it melts into the text's own tokens.
int32_t answer_token(const Tokenizer& tokenizer, const std::string& text, std::string_view answer) {
  const std::vector<int32_t> before = tokenizer.encode(text);
  const std::vector<int32_t> both = tokenizer.encode(concat(text, " ", answer));
  const auto split = std::ranges::mismatch(before, both);
  return split.in1 == before.end() && split.in2 != both.end() ? *split.in2 : -1;
}

std::string conflict_text(std::string_view stem, std::string_view subject, std::string_view wrong) {
  const std::string question = stem_for(stem, subject);
  return concat(question, " ", wrong, ". ", question);
}

template <typename T>
void shuffle(std::vector<T>& values, Rng& rng) {
  for (size_t i = 0; i + 1 < values.size(); ++i)
    std::swap(values[i],
              values[i + static_cast<size_t>(rng.below(static_cast<int64_t>(values.size() - i)))]);
}

}  // namespace

std::vector<Fact> known_facts(DecoderModel& model, ThreadPool& pool, const Tokenizer& tokenizer,
                              std::span<const Fact> facts, std::string_view stem,
                              const PrefillProgress& progress) {
  std::vector<Fact> known;
  int64_t done = 0;
  for (const Fact& fact : facts) {
    const std::string question = stem_for(stem, fact.subject);
    Session session(model, pool, MemoryRegistry::builtin().build("full", model.memory_shape()));
    session.append(encode(tokenizer, question));
    if (argmax(session.logits()) == answer_token(tokenizer, question, fact.answer))
      known.push_back(fact);
    if (progress && !progress(++done, std::ssize(facts))) break;
  }
  return known;
}

std::vector<ConflictPrompt> conflict_prompts(const Tokenizer& tokenizer,
                                             std::span<const Fact> facts,
                                             std::span<const Fact> known, std::string_view stem,
                                             uint64_t seed, int64_t contradictions) {
  MNEME_CHECK(contradictions > 0, "conflict prompts: contradictions must be positive, got ",
              contradictions);
  // A fact as the tokenizer sees it.
  struct Sized {
    Fact fact;
    size_t subject_tokens, answer_tokens;
    int32_t first;  // token of the answer
  };
  std::vector<Sized> pool;
  for (const Fact& fact : facts)
    pool.push_back({fact, tokenizer.encode(concat(" ", fact.subject)).size(),
                    tokenizer.encode(concat(" ", fact.answer)).size(),
                    answer_token(tokenizer, stem_for(stem, fact.subject), fact.answer)});
  Rng rng(seed);
  std::vector<Fact> order(known.begin(), known.end());
  shuffle(order, rng);
  std::vector<ConflictPrompt> prompts;
  for (const Fact& fact : order) {
    const auto own =
        std::ranges::find(pool, fact.subject, [](const Sized& s) { return s.fact.subject; });
    MNEME_CHECK(own != pool.end(), "conflict prompts: '", fact.subject,
                "' is not one of the facts");
    const Sized self = *own;
    const auto usable = [](const Sized& one, std::initializer_list<int32_t> taken) {
      return one.first >= 0 && std::ranges::find(taken, one.first) == taken.end();
    };
    std::vector<Sized> wrongs = pool, others = pool;
    shuffle(wrongs, rng);
    shuffle(others, rng);
    const size_t first_prompt = prompts.size();
    const auto is_told = [&](const Sized& wrong) {
      return std::any_of(prompts.begin() + static_cast<int64_t>(first_prompt), prompts.end(),
                         [&](const ConflictPrompt& p) { return p.wrong == wrong.fact.answer; });
    };
    const auto find_pair = [&]() -> bool {
      for (const Sized& wrong : wrongs) {
        if (!usable(wrong, {self.first}) || is_told(wrong)) continue;
        const std::vector<int32_t> clean =
            encode(tokenizer, conflict_text(stem, fact.subject, wrong.fact.answer));
        for (const Sized& other : others) {
          if (other.subject_tokens != self.subject_tokens ||
              !usable(other, {self.first, wrong.first}))
            continue;
          for (const Sized& second : wrongs) {
            if (second.answer_tokens != wrong.answer_tokens ||
                !usable(second, {self.first, wrong.first, other.first}))
              continue;
            std::vector<int32_t> corrupt =
                encode(tokenizer, conflict_text(stem, other.fact.subject, second.fact.answer));
            if (corrupt.size() != clean.size()) continue;
            prompts.push_back({.fact = fact,
                               .wrong = wrong.fact.answer,
                               .other = other.fact.subject,
                               .other_wrong = second.fact.answer,
                               .example = {.clean = clean,
                                           .corrupt = std::move(corrupt),
                                           .memory_answer = self.first,
                                           .context_answer = wrong.first}});
            return true;
          }
        }
      }
      return false;
    };
    if (self.first < 0) continue;
    for (int64_t told = 0; told < contradictions && find_pair(); ++told) shuffle(others, rng);
  }
  return prompts;
}

std::vector<ConflictExample> examples_of(std::span<const ConflictPrompt> prompts) {
  std::vector<ConflictExample> examples;
  for (const ConflictPrompt& prompt : prompts) examples.push_back(prompt.example);
  return examples;
}

}  // namespace mneme
