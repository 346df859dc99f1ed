#include "mneme/eval/perplexity.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "mneme/core/error.h"
#include "mneme/eval/moments.h"

namespace mneme {
namespace {

// One window: text tokens [first, last), of which those from `score` on count.
struct Window {
  int64_t first = 0, last = 0, score = 0;
};

std::vector<Window> windows_of(int64_t total, const PerplexityOptions& options) {
  const int64_t lead = options.begin >= 0 ? 1 : 0;
  if (options.window == 0) return {{0, total, 1 - lead}};
  const int64_t held = options.window - lead;
  std::vector<Window> windows;
  for (int64_t first = 0, scored = 1 - lead; scored < total; first += options.stride) {
    const int64_t last = std::min(first + held, total);
    windows.push_back({first, last, scored});
    scored = last;
  }
  return windows;
}

void check_options(const PerplexityOptions& options, int64_t total) {
  const int64_t lead = options.begin >= 0 ? 1 : 0;
  MNEME_CHECK(total + lead >= 2, "perplexity: a text of at least ", 2 - lead,
              " tokens is needed, got ", total);
  MNEME_CHECK(options.chunk > 0, "perplexity: the chunk must be positive, got ", options.chunk);
  if (options.window == 0) return;
  MNEME_CHECK(options.window >= 2, "perplexity: a window holds at least 2 tokens, got ",
              options.window);
  MNEME_CHECK(options.stride >= 1 && options.stride < options.window,
              "perplexity: the stride must be 1 to ", options.window - 1, " for windows of ",
              options.window, " tokens, got ", options.stride);
}

}  // namespace

double PerplexityResult::perplexity() const { return std::exp(mean_nll); }

PerplexityResult perplexity(DecoderModel& model, ThreadPool& pool, const MemoryMaker& make_memory,
                            std::span<const int32_t> tokens, const PerplexityOptions& options,
                            const PrefillProgress& progress) {
  const auto total = static_cast<int64_t>(tokens.size());
  check_options(options, total);
  const std::vector<Window> windows = windows_of(total, options);
  const int64_t lead = options.begin >= 0 ? 1 : 0;
  int64_t all = 0, done = 0;
  for (const Window& window : windows) all += lead + window.last - window.first;

  PerplexityResult result;
  Moments moments;
  const auto start = std::chrono::steady_clock::now();
  for (const Window& window : windows) {
    if (!result.complete) break;
    Session session(model, pool, make_memory());
    const int64_t size = lead + window.last - window.first;
    std::vector<int32_t> text(static_cast<size_t>(size), options.begin);
    std::copy(tokens.begin() + window.first, tokens.begin() + window.last, text.begin() + lead);
    const StepPlan plan = session.memory().plan(size);
    MNEME_CHECK(plan.possible() || session.memory().capabilities().beyond_context, plan.refusal);
    // Logits are made only from the token before the first one that counts.
    const int64_t silent = window.score - window.first + lead - 1;
    int64_t at = 0;
    while (at < size) {
      const int64_t end = at < silent ? silent : size;
      const auto part = std::span<const int32_t>(text).subspan(
          static_cast<size_t>(at), static_cast<size_t>(std::min(options.chunk, end - at)));
      if (at < silent) {
        session.append(part, options.chunk);
      } else {
        session.append_visiting(
            part, options.chunk, [&](int64_t position, std::span<const float> logits) {
              if (position + 1 < size)
                moments.add(-log_probability(logits, text[static_cast<size_t>(position + 1)]));
            });
      }
      at += static_cast<int64_t>(part.size());
      done += static_cast<int64_t>(part.size());
      if (progress && !progress(done, all)) {
        result.complete = done == all;
        break;
      }
    }
    result.resident_bytes = session.memory().resident_bytes();
    result.logical_bytes = session.memory().logical_bytes();
    result.peak_bytes = session.memory().peak_bytes();
  }
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  result.tokens = moments.count();
  result.mean_nll = moments.mean();
  result.standard_error = moments.standard_error();
  return result;
}

}  // namespace mneme
