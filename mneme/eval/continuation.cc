#include "mneme/eval/continuation.h"

#include <chrono>

#include "mneme/core/error.h"
#include "mneme/eval/decode_speed.h"
#include "mneme/eval/moments.h"

namespace mneme {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kSpeedTokens = 8;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Reads the prompt; false where `progress` stopped it.
bool read_prompt(Session& session, const ContinuationText& text, const PrefillProgress& progress,
                 const MemoryVisitor& after_prompt, ContinuationScore& score) {
  const std::span<const int32_t> prompt = text.prompt();
  const auto total = std::ssize(text.tokens);
  const auto start = Clock::now();
  score.prompt_tokens = session.append(prompt, text.chunk, [&](int64_t done, int64_t) {
    return !progress || progress(done, total);
  });
  score.prompt_seconds = seconds_since(start);
  score.resident_bytes = session.memory().resident_bytes();
  score.logical_bytes = session.memory().logical_bytes();
  score.peak_bytes = session.memory().peak_bytes();
  if (score.prompt_tokens < std::ssize(prompt)) return false;
  if (after_prompt) after_prompt(session.memory());
  return true;
}

}  // namespace

void check_continuation(const ContinuationText& text) {
  MNEME_CHECK(text.scored >= 1, "continuation: expected a number of scored tokens above 0, got ",
              text.scored);
  MNEME_CHECK(std::ssize(text.tokens) > text.scored, "continuation: a text of more than ",
              text.scored, " tokens is needed to score so many, got ", text.tokens.size());
}

ContinuationScore score_continuation(DecoderModel& model, ThreadPool& pool,
                                     const MemoryMaker& make_memory, const ContinuationText& text,
                                     const PrefillProgress& progress,
                                     const MemoryVisitor& after_prompt) {
  check_continuation(text);
  Session session(model, pool, make_memory());
  ContinuationScore score;
  if (!read_prompt(session, text, progress, after_prompt, score)) return score;
  const auto total = std::ssize(text.tokens);
  Moments moments;
  double seconds = 0;
  for (const int32_t token : text.tail()) {
    moments.add(-log_probability(session.logits(), token));
    if (moments.count() == text.scored) break;  // nothing follows the last one
    const auto start = Clock::now();
    session.append({&token, 1});
    seconds += seconds_since(start);
    if (progress && !progress(score.prompt_tokens + moments.count(), total)) return score;
  }
  score.tokens = moments.count();
  score.mean_nll = moments.mean();
  score.standard_error = moments.standard_error();
  if (seconds > 0) score.decode_rate = static_cast<double>(score.tokens - 1) / seconds;
  score.complete = true;
  if (progress) progress(total, total);
  return score;
}

ContinuationScore continuation_divergence(DecoderModel& model, ThreadPool& pool,
                                          const SequenceMemory& reference,
                                          const MemoryMaker& make_memory,
                                          const ContinuationText& text,
                                          const PrefillProgress& progress,
                                          const MemoryVisitor& after_prompt) {
  check_continuation(text);
  MNEME_CHECK(reference.length() == std::ssize(text.prompt()), "continuation: the reference holds ",
              reference.length(), " tokens, expected the prompt's ", text.prompt().size());
  Session session(model, pool, make_memory());
  ContinuationScore score;
  if (!read_prompt(session, text, progress, after_prompt, score)) return score;
  const auto total = std::ssize(text.tokens);
  score.decode_rate = measure_decode_rate(session, kSpeedTokens);
  // Several tokens at once would be another text that ends: rows would be judged again.
  const Capabilities can = session.memory().capabilities();
  const int64_t chunk = can.decodes_apart || can.whole_text ? 1 : 64;
  const auto other = reference.fork();
  const KlDivergence divergence = kl_divergence(
      model, pool, *other, session.memory(), text.tail(), chunk,
      [&](int64_t done, int64_t) {
        return !progress || progress(score.prompt_tokens + done, total);
      },
      replay_before_steps(model, pool, session.memory(), text.tokens, std::ssize(text.prompt())));
  if (!divergence.complete) return score;
  score.tokens = std::ssize(divergence.per_token);
  score.mean_nll = divergence.tested_nll;
  score.divergence = summarise(divergence);
  score.complete = true;
  return score;
}

}  // namespace mneme
