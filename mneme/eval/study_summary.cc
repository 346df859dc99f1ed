#include "mneme/eval/study_summary.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "mneme/eval/moments.h"

namespace mneme {

std::optional<double> StudySummary::quality(StudyTask task) const {
  if (task == StudyTask::kPerplexity && text) return std::exp(text->mean_nll);
  if (task == StudyTask::kDivergence && text && text->divergence) return text->divergence->mean;
  if (!is_text_task(task) && recall) return recall->mean_log_prob;
  return std::nullopt;
}

bool higher_is_better(StudyTask task) { return !is_text_task(task); }

StudySummary summarise(const Study& study, StudyTask task, size_t memory,
                       std::optional<int64_t> length) {
  StudySummary summary;
  std::vector<RecallScore> scores;
  double prompt_seconds = 0;
  int64_t longest = 0;
  Moments decode;
  const auto add = [&](const auto& score, int64_t tokens, double seconds) {
    summary.prompt_tokens += tokens;
    prompt_seconds += seconds;
    if (tokens > longest) {
      decode = {};
      summary.resident_bytes = summary.logical_bytes = summary.peak_bytes = 0;
    }
    longest = std::max(longest, tokens);
    if (tokens < longest) return;
    summary.resident_bytes = std::max(summary.resident_bytes, score.resident_bytes);
    summary.logical_bytes = std::max(summary.logical_bytes, score.logical_bytes);
    summary.peak_bytes = std::max(summary.peak_bytes, score.peak_bytes);
    if (score.decode_rate > 0) decode.add(score.decode_rate);
  };
  for (const StudyCell& cell : study.cells) {
    if (cell.task != task || cell.memory != memory || (length && cell.length != *length)) continue;
    if (!cell.result || !cell.result->error.empty()) {
      ++summary.missing;
      if (cell.result && summary.error.empty()) summary.error = cell.result->error;
      continue;
    }
    ++summary.cases;
    summary.seconds += cell.result->seconds;
    if (cell.result->recall) {
      const RecallScore& score = *cell.result->recall;
      add(score, score.prompt_tokens, score.seconds);
      scores.push_back(score);
    }
    if (cell.result->text) {
      summary.text = cell.result->text;
      add(*summary.text, summary.text->prompt_tokens, summary.text->prompt_seconds);
    }
  }
  if (!scores.empty()) summary.recall = summarise(scores);
  if (prompt_seconds > 0)
    summary.prefill_rate = static_cast<double>(summary.prompt_tokens) / prompt_seconds;
  summary.decode_rate = decode.mean();
  return summary;
}

std::vector<size_t> pareto_front(const std::vector<std::pair<double, double>>& points) {
  std::vector<size_t> order(points.size());
  std::iota(order.begin(), order.end(), size_t{0});
  // Of the equally cheap the best first: the others then do not beat what is there.
  std::ranges::stable_sort(order, {},
                           [&](size_t i) { return std::pair(points[i].first, -points[i].second); });
  std::vector<size_t> front;
  for (const size_t i : order) {
    if (front.empty() || points[i].second > points[front.back()].second) front.push_back(i);
  }
  return front;
}

}  // namespace mneme
