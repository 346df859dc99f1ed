#include "mneme/eval/recall.h"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "mneme/core/error.h"
#include "mneme/eval/decode_speed.h"
#include "mneme/runtime/sampler.h"

namespace mneme {
namespace {

constexpr int64_t kSpeedTokens = 8;

std::vector<int32_t> greedy_answer(Session session, size_t count) {
  std::vector<int32_t> tokens;
  while (tokens.size() < count) {
    tokens.push_back(argmax(session.logits()));
    if (tokens.size() < count) session.append({&tokens.back(), 1});
  }
  return tokens;
}

double share_found(const std::vector<std::string>& parts, const std::string& text) {
  if (parts.empty()) return 0;
  const auto found = std::ranges::count_if(
      parts, [&](const std::string& part) { return text.find(part) != std::string::npos; });
  return static_cast<double>(found) / static_cast<double>(parts.size());
}

}  // namespace

double RecallScore::log_prob() const {
  return std::accumulate(log_probs.begin(), log_probs.end(), 0.0);
}

double RecallScore::log_prob_per_token() const {
  return log_probs.empty() ? 0 : log_prob() / static_cast<double>(log_probs.size());
}

RecallScore score_recall(DecoderModel& model, ThreadPool& pool, const Tokenizer& tokenizer,
                         const MemoryMaker& make_memory, const RecallCase& recall, int64_t chunk,
                         const PrefillProgress& progress, const MemoryVisitor& after_prompt) {
  MNEME_CHECK(!recall.prompt.empty() && !recall.expected.empty(),
              "recall: a case needs a prompt and an answer");
  Session session(model, pool, make_memory());
  RecallScore score{.length = recall.length,
                    .depth = recall.depth,
                    .prompt_tokens = std::ssize(recall.prompt),
                    .answer = recall.answer};
  const auto start = std::chrono::steady_clock::now();
  const int64_t run = session.append(recall.prompt, chunk, progress);
  score.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  score.resident_bytes = session.memory().resident_bytes();
  score.logical_bytes = session.memory().logical_bytes();
  score.peak_bytes = session.memory().peak_bytes();
  if (run < score.prompt_tokens) return score;

  if (after_prompt) after_prompt(session.memory());
  if (session.memory().capabilities().fork) {
    score.greedy = tokenizer.decode(greedy_answer(session.fork(), recall.expected.size()));
    score.found = share_found(recall.parts, score.greedy);
    score.decode_rate = measure_decode_rate(session, kSpeedTokens);
  }
  // As long as every token was the likeliest one, teacher forcing and greedy decoding are one run.
  score.exact = true;
  for (size_t i = 0; i < recall.expected.size(); ++i) {
    const int32_t token = recall.expected[i];
    score.log_probs.push_back(log_probability(session.logits(), token));
    score.exact = score.exact && argmax(session.logits()) == token;
    if (i + 1 < recall.expected.size()) session.append({&token, 1});
  }
  return score;
}

RecallSummary summarise(const std::vector<RecallScore>& scores) {
  RecallSummary summary;
  int64_t tokens = 0;
  for (const RecallScore& score : scores) {
    if (score.log_probs.empty()) continue;  // stopped before its answer
    ++summary.cases;
    summary.exact_rate += score.exact;
    summary.found_rate += score.found;
    summary.mean_log_prob += score.log_prob();
    tokens += static_cast<int64_t>(score.log_probs.size());
  }
  if (summary.cases == 0) return summary;
  summary.exact_rate /= static_cast<double>(summary.cases);
  summary.found_rate /= static_cast<double>(summary.cases);
  summary.mean_log_prob /= static_cast<double>(tokens);
  return summary;
}

}  // namespace mneme
