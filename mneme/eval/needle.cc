#include "mneme/eval/needle.h"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "mneme/core/error.h"
#include "mneme/eval/haystack.h"
#include "mneme/runtime/sampler.h"

namespace mneme {
namespace {

constexpr const char* kIntro =
    "One fact in the text below matters more than all the others: a pass key. Remember it, for "
    "there is a question about it at the end.\n\n";
constexpr const char* kQuestion = "\n\nWhat is the pass key? The pass key is";

std::string needle_text(const std::string& key) {
  return " The pass key is " + key + ". Remember it: " + key + " is the pass key.";
}

// The tokens around the haystack.
struct Frame {
  std::vector<int32_t> intro, needle, question, answer;

  int64_t size() const {
    return static_cast<int64_t>(intro.size() + needle.size() + question.size());
  }
};

Frame frame_for(const Tokenizer& tokenizer, const std::string& key) {
  Frame frame{.intro = tokenizer.encode(kIntro), .needle = tokenizer.encode(needle_text(key))};
  if (tokenizer.adds_bos() && tokenizer.bos() >= 0)
    frame.intro.insert(frame.intro.begin(), tokenizer.bos());
  // Where question and answer part is where the tokens of both together part from the question's.
  const std::vector<int32_t> question = tokenizer.encode(kQuestion);
  const std::vector<int32_t> both = tokenizer.encode(std::string(kQuestion) + " " + key);
  const auto split = std::ranges::mismatch(question, both).in2;
  frame.question.assign(both.begin(), split);
  frame.answer.assign(split, both.end());
  MNEME_CHECK(!frame.question.empty() && !frame.answer.empty(),
              "needle: the tokenizer does not separate the question from the answer");
  return frame;
}

// At least `count` tokens of filler.
std::vector<int32_t> filler(const Tokenizer& tokenizer, const NeedleOptions& options,
                            int64_t count) {
  std::string text = options.haystack;
  for (int64_t characters = 6 * count + 64;; characters *= 2) {
    if (options.haystack.empty()) {
      text = haystack_text(characters, options.seed);
    } else {
      while (static_cast<int64_t>(text.size()) < characters) text += "\n\n" + options.haystack;
    }
    std::vector<int32_t> tokens = tokenizer.encode(text);
    if (static_cast<int64_t>(tokens.size()) >= count) {
      tokens.resize(static_cast<size_t>(count));
      return tokens;
    }
  }
}

// The end of a sentence nearest to `wanted`, or `wanted` itself when the text has none.
size_t sentence_end_near(const Tokenizer& tokenizer, const std::vector<int32_t>& tokens,
                         size_t wanted) {
  const auto ends = [&](size_t at) {
    if (at == 0 || at == tokens.size()) return true;
    const std::string piece = tokenizer.piece(tokens[at - 1]);
    return !piece.empty() && (piece.back() == '.' || piece.back() == '!' || piece.back() == '?');
  };
  for (size_t distance = 0; distance <= tokens.size(); ++distance) {
    if (wanted >= distance && ends(wanted - distance)) return wanted - distance;
    if (wanted + distance <= tokens.size() && ends(wanted + distance)) return wanted + distance;
  }
  return wanted;
}

std::vector<int32_t> greedy_answer(Session session, size_t count) {
  std::vector<int32_t> tokens;
  while (tokens.size() < count) {
    tokens.push_back(argmax(session.logits()));
    if (tokens.size() < count) session.append({&tokens.back(), 1});
  }
  return tokens;
}

}  // namespace

double NeedleScore::log_prob() const {
  return std::accumulate(log_probs.begin(), log_probs.end(), 0.0);
}

double NeedleScore::log_prob_per_token() const {
  return log_probs.empty() ? 0 : log_prob() / static_cast<double>(log_probs.size());
}

std::vector<NeedleCase> needle_cases(const Tokenizer& tokenizer, const NeedleOptions& options) {
  MNEME_CHECK(!options.lengths.empty() && !options.depths.empty(),
              "needle: at least one length and one depth are needed");
  for (const double depth : options.depths)
    MNEME_CHECK(depth >= 0 && depth <= 1, "needle: a depth is 0 to 1, got ", depth);
  const int64_t longest = std::ranges::max(options.lengths);
  const std::vector<int32_t> hay = filler(tokenizer, options, std::max<int64_t>(1, longest));
  Rng rng(options.seed);
  std::vector<NeedleCase> cases;
  for (const int64_t length : options.lengths) {
    for (const double depth : options.depths) {
      const std::string key = std::to_string(10000 + rng.below(90000));
      const Frame frame = frame_for(tokenizer, key);
      const int64_t room = length - frame.size();
      MNEME_CHECK(room >= 0, "needle: a prompt has at least ", frame.size(), " tokens, got ",
                  length);
      const std::vector<int32_t> text(hay.begin(), hay.begin() + room);
      const auto wanted = static_cast<size_t>(depth * static_cast<double>(room) + 0.5);
      const auto at =
          text.begin() + static_cast<int64_t>(sentence_end_near(tokenizer, text, wanted));
      NeedleCase needle{.length = length, .depth = depth, .answer = key, .expected = frame.answer};
      const auto append = [&](auto first, auto last) {
        needle.prompt.insert(needle.prompt.end(), first, last);
      };
      append(frame.intro.begin(), frame.intro.end());
      append(text.begin(), at);
      append(frame.needle.begin(), frame.needle.end());
      append(at, text.end());
      append(frame.question.begin(), frame.question.end());
      cases.push_back(std::move(needle));
    }
  }
  return cases;
}

NeedleScore score_needle(DecoderModel& model, ThreadPool& pool, const Tokenizer& tokenizer,
                         const MemoryMaker& make_memory, const NeedleCase& needle, int64_t chunk,
                         const PrefillProgress& progress) {
  MNEME_CHECK(!needle.prompt.empty() && !needle.expected.empty(),
              "needle: a case needs a prompt and an answer");
  Session session(model, pool, make_memory());
  NeedleScore score{.length = needle.length, .depth = needle.depth, .answer = needle.answer};
  const auto start = std::chrono::steady_clock::now();
  const int64_t run = session.append(needle.prompt, chunk, progress);
  score.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  score.resident_bytes = session.memory().resident_bytes();
  score.logical_bytes = session.memory().logical_bytes();
  score.peak_bytes = session.memory().peak_bytes();
  if (run < static_cast<int64_t>(needle.prompt.size())) return score;

  if (session.memory().capabilities().fork)
    score.greedy = tokenizer.decode(greedy_answer(session.fork(), needle.expected.size()));
  // As long as every token was the likeliest one, teacher forcing and greedy decoding are one run.
  score.exact = true;
  for (size_t i = 0; i < needle.expected.size(); ++i) {
    const int32_t token = needle.expected[i];
    score.log_probs.push_back(log_probability(session.logits(), token));
    score.exact = score.exact && argmax(session.logits()) == token;
    if (i + 1 < needle.expected.size()) session.append({&token, 1});
  }
  return score;
}

NeedleSummary summarise(const std::vector<NeedleScore>& scores) {
  NeedleSummary summary;
  int64_t tokens = 0;
  for (const NeedleScore& score : scores) {
    if (score.log_probs.empty()) continue;  // stopped before its answer
    ++summary.cases;
    summary.exact_rate += score.exact;
    summary.mean_log_prob += score.log_prob();
    tokens += static_cast<int64_t>(score.log_probs.size());
  }
  if (summary.cases == 0) return summary;
  summary.exact_rate /= static_cast<double>(summary.cases);
  summary.mean_log_prob /= static_cast<double>(tokens);
  return summary;
}

}  // namespace mneme
