#include "mneme/eval/recall_text.h"

#include <algorithm>

#include "mneme/core/error.h"
#include "mneme/eval/haystack.h"

namespace mneme {
namespace {

// The end of a sentence nearest to `wanted`, or `wanted` itself when the text has none.
size_t sentence_end_near(const Tokenizer& tokenizer, std::span<const int32_t> tokens,
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

}  // namespace

void check_recall_options(const char* task, const RecallOptions& options, bool with_depths) {
  MNEME_CHECK(!options.lengths.empty() && !(with_depths && options.depths.empty()), task,
              ": at least one length and one depth are needed");
  if (!with_depths) return;
  for (const double depth : options.depths)
    MNEME_CHECK(depth >= 0 && depth <= 1, task, ": a depth is 0 to 1, got ", depth);
}

std::vector<int32_t> recall_filler(const Tokenizer& tokenizer, const RecallOptions& options) {
  const int64_t count = std::max<int64_t>(1, std::ranges::max(options.lengths));
  std::string text = options.haystack;
  for (int64_t characters = 6 * count + 64;; characters *= 2) {
    if (options.haystack.empty()) {
      text = haystack_text(characters, options.seed);
    } else {
      while (static_cast<int64_t>(text.size()) < characters) text += "\n\n" + options.haystack;
    }
    std::vector<int32_t> tokens = tokenizer.encode(text);
    if (std::ssize(tokens) >= count) {
      tokens.resize(static_cast<size_t>(count));
      return tokens;
    }
  }
}

QuestionTokens question_tokens(const Tokenizer& tokenizer, const std::string& question,
                               const std::string& answer) {
  const std::vector<int32_t> alone = tokenizer.encode(question);
  const std::vector<int32_t> both = tokenizer.encode(question + " " + answer);
  const auto split = std::ranges::mismatch(alone, both).in2;
  QuestionTokens tokens{.question = {both.begin(), split}, .answer = {split, both.end()}};
  MNEME_CHECK(!tokens.question.empty() && !tokens.answer.empty(),
              "recall: the tokenizer does not separate the question from the answer");
  return tokens;
}

std::vector<int32_t> intro_tokens(const Tokenizer& tokenizer, const std::string& intro) {
  std::vector<int32_t> tokens = tokenizer.encode(intro);
  if (tokenizer.adds_bos() && tokenizer.bos() >= 0) tokens.insert(tokens.begin(), tokenizer.bos());
  return tokens;
}

RecallCase recall_case(const char* task, const Tokenizer& tokenizer, const RecallText& text,
                       const std::vector<int32_t>& filler, int64_t length) {
  const std::vector<int32_t> intro = intro_tokens(tokenizer, text.intro);
  const QuestionTokens end = question_tokens(tokenizer, text.question, text.answer);
  int64_t taken = std::ssize(intro) + std::ssize(end.question);
  struct Piece {
    double depth;
    std::vector<int32_t> tokens;
    size_t at = 0;  // in the filler
  };
  std::vector<Piece> pieces;
  for (const HiddenText& hidden : text.hidden) {
    pieces.push_back({hidden.depth, tokenizer.encode(hidden.text)});
    taken += std::ssize(pieces.back().tokens);
  }
  const int64_t room = length - taken;
  MNEME_CHECK(room >= 0, task, ": a prompt has at least ", taken, " tokens, got ", length);
  MNEME_CHECK(room <= std::ssize(filler), task, ": ", room, " tokens of filler are needed, got ",
              filler.size());
  const auto part = std::span<const int32_t>(filler).first(static_cast<size_t>(room));
  for (Piece& piece : pieces) {
    const auto wanted = static_cast<size_t>(piece.depth * static_cast<double>(room) + 0.5);
    piece.at = sentence_end_near(tokenizer, part, wanted);
  }
  std::ranges::stable_sort(pieces, {}, &Piece::at);

  RecallCase recall{.length = length, .answer = text.answer, .expected = end.answer};
  recall.prompt = intro;
  const auto append = [&](std::span<const int32_t> tokens) {
    recall.prompt.insert(recall.prompt.end(), tokens.begin(), tokens.end());
  };
  size_t done = 0;
  for (const Piece& piece : pieces) {
    append(part.subspan(done, piece.at - done));
    append(piece.tokens);
    done = piece.at;
  }
  append(part.subspan(done));
  append(end.question);
  return recall;
}

}  // namespace mneme
