// Puts a recall prompt together, exactly as long as asked:
//
//   intro, filler with texts hidden at the sentence ends nearest their depths, question   -> answer
//
// Tests: recall_text_test.cc.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mneme/eval/recall.h"
#include "mneme/io/tokenizer.h"

namespace mneme {

struct HiddenText {
  double depth = 0;  // of the filler: 0 its start, 1 its end
  std::string text;  // begins with a blank
};

struct RecallText {
  std::string intro;
  std::vector<HiddenText> hidden;  // those of one place stay in this order
  std::string question;            // ends without a blank
  std::string answer;              // follows after a blank
};

// Throws Error where there is no length, or a depth that is not 0 to 1. `task` is named in messages.
void check_recall_options(const char* task, const RecallOptions& options, bool with_depths);

// Filler for every length of the options.
std::vector<int32_t> recall_filler(const Tokenizer& tokenizer, const RecallOptions& options);

// A case without depth and parts: prompt [length] and expected. Throws Error where `length` has no
// room for what is not filler.
RecallCase recall_case(const char* task, const Tokenizer& tokenizer, const RecallText& text,
                       const std::vector<int32_t>& filler, int64_t length);

// The tokens of a question, and those of the answer after it: they part where the tokens of both
// together part from the question's. Throws Error where they cannot be told apart.
struct QuestionTokens {
  std::vector<int32_t> question, answer;
};
QuestionTokens question_tokens(const Tokenizer& tokenizer, const std::string& question,
                               const std::string& answer);
// The tokens of a prompt's beginning, the model's beginning-of-text where it wants one.
std::vector<int32_t> intro_tokens(const Tokenizer& tokenizer, const std::string& intro);

}  // namespace mneme
