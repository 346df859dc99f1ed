#include "mneme/eval/comparison.h"

#include <algorithm>
#include <chrono>
#include <set>

#include "mneme/cache/memory_registry.h"
#include "mneme/core/error.h"
#include "mneme/eval/decode_speed.h"
#include "mneme/runtime/sampler.h"

namespace mneme {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double rate(int64_t count, double seconds) {
  return count > 0 && seconds > 0 ? static_cast<double>(count) / seconds : 0;
}

void check(const ComparisonOptions& options) {
  MNEME_CHECK(!options.specs.empty(), "compare: at least one memory is needed");
  MNEME_CHECK(options.budget_bytes >= 0, "compare: the budget must not be negative, got ",
              options.budget_bytes);
  MNEME_CHECK(options.chunk >= 0, "compare: the chunk must not be negative, got ", options.chunk);
  MNEME_CHECK(options.tail >= 1, "compare: the tail must be positive, got ", options.tail);
  MNEME_CHECK(options.speed_points >= 0 && options.speed_tokens >= 1,
              "compare: expected speed points >= 0 and speed tokens >= 1, got ",
              options.speed_points, " and ", options.speed_tokens);
  const size_t fewest = options.task == ComparisonTask::kPerplexity ? 2 : 1;
  MNEME_CHECK(options.tokens.size() >= fewest, "compare: a text of at least ", fewest,
              " tokens is needed, got ", options.tokens.size());
}

class Comparer {
 public:
  Comparer(DecoderModel& model, ThreadPool& pool, const Tokenizer& tokenizer,
           const ComparisonOptions& options, const ComparisonProgress& progress)
      : model_(model), pool_(pool), tokenizer_(tokenizer), options_(options), progress_(progress) {}

  Comparison run() {
    check(options_);
    const MemoryRegistry& registry = MemoryRegistry::builtin();
    Comparison result{.task = options_.task, .reference = registry.canonical(options_.reference)};
    std::vector<ComparisonRow> rows;
    for (const std::string& spec : options_.specs)
      rows.push_back({.label = spec, .spec = registry.canonical(spec)});

    // The reference goes first, whatever its place among the rows: the others are measured against
    // it.
    auto reference = std::ranges::find(rows, result.reference, &ComparisonRow::spec);
    ComparisonRow unseen{.label = options_.reference, .spec = result.reference};
    const bool seen = reference != rows.end();
    ComparisonRow& first = seen ? *reference : unseen;
    measure(first, true, seen ? options_.budget_bytes : 0);
    result.reference_error = first.error;
    for (ComparisonRow& row : rows) {
      if ((!seen || &row != &*reference) && !interrupted_)
        measure(row, false, options_.budget_bytes);
    }
    std::erase_if(rows, [](const ComparisonRow& row) { return row.seconds == 0; });
    result.rows = std::move(rows);
    result.interrupted = interrupted_;
    return result;
  }

 private:
  void measure(ComparisonRow& row, bool is_reference, int64_t budget) {
    const auto start = Clock::now();
    const MemoryMaker make = [&row, budget, this] {
      auto memory = MemoryRegistry::builtin().build(row.spec, model_.memory_shape());
      memory->set_budget(budget);
      return memory;
    };
    try {
      switch (options_.task) {
        case ComparisonTask::kPrompt:
          measure_prompt(row, is_reference, make);
          break;
        case ComparisonTask::kPerplexity:
          measure_perplexity(row, is_reference, make);
          break;
      }
      if (interrupted_) row.error = "interrupted";
    } catch (const Error& error) {
      row.error = error.what();
    }
    row.seconds = std::max(seconds_since(start), 1e-9);  // 0 marks rows that never began
  }

  PrefillProgress reporter(const ComparisonRow& row, const char* stage, int64_t before = 0,
                           int64_t total = 0, const SequenceMemory* memory = nullptr) {
    return [this, &row, stage, before, total, memory](int64_t done, int64_t all) {
      const ComparisonStep step{.label = row.label,
                                .stage = stage,
                                .done = before + done,
                                .total = total > 0 ? total : all,
                                .resident_bytes = memory == nullptr ? 0 : memory->resident_bytes()};
      if (progress_ && !progress_(step)) interrupted_ = true;
      return !interrupted_;
    };
  }

  void measure_prompt(ComparisonRow& row, bool is_reference, const MemoryMaker& make);
  void measure_speed(ComparisonRow& row, const Session& session, int64_t tokens, double seconds);
  void compare_tail(ComparisonRow& row, const Session& session);
  void compare_answer(ComparisonRow& row, Session after_prompt);
  void measure_perplexity(ComparisonRow& row, bool is_reference, const MemoryMaker& make);

  DecoderModel& model_;
  ThreadPool& pool_;
  const Tokenizer& tokenizer_;
  const ComparisonOptions& options_;
  const ComparisonProgress& progress_;
  bool interrupted_ = false;

  std::unique_ptr<SequenceMemory> reference_tail_;  // before the prompt's last tokens
  std::vector<int32_t> reference_answer_;
  std::optional<double> reference_perplexity_;
};

void Comparer::measure_prompt(ComparisonRow& row, bool is_reference, const MemoryMaker& make) {
  const std::span<const int32_t> prompt = options_.tokens;
  const auto total = static_cast<int64_t>(prompt.size());
  Session session(model_, pool_, make());
  const Capabilities can = session.memory().capabilities();
  MNEME_CHECK(total <= model_.config().context || can.beyond_context,
              session.memory().plan(total).refusal);
  const int64_t tail_start = std::max<int64_t>(0, total - options_.tail);
  // A memory that judges whole texts is not stopped on the way: its tail is measured apart.
  const bool whole = can.whole_text;
  std::set<int64_t> speed_stops;
  int64_t points = can.fork ? options_.speed_points : 0;
  if (whole) points = std::min<int64_t>(points, 1);
  for (int64_t i = 1; i <= points; ++i)
    speed_stops.insert(std::max<int64_t>(1, total * i / points));
  std::set<int64_t> stops = speed_stops;
  stops.insert(total);
  if (!whole) {
    stops.insert(tail_start);
  } else if (!is_reference && reference_tail_ != nullptr) {
    Session before_tail(model_, pool_, make());
    before_tail.append(prompt.first(static_cast<size_t>(tail_start)), options_.chunk,
                       reporter(row, "divergence"));
    if (!interrupted_) compare_tail(row, before_tail);
  }

  reporter(row, "prompt")(0, total);
  double prefill_seconds = 0, point_seconds = 0;
  int64_t at = 0, point = 0;
  for (const int64_t stop : stops) {
    const auto part = prompt.subspan(static_cast<size_t>(at), static_cast<size_t>(stop - at));
    const auto start = Clock::now();
    session.append(part, options_.chunk, reporter(row, "prompt", at, total, &session.memory()),
                   total - stop);
    const double seconds = seconds_since(start);
    if (interrupted_) break;
    prefill_seconds += seconds;
    point_seconds += seconds;
    at = stop;
    if (speed_stops.contains(stop)) {
      measure_speed(row, session, stop - point, point_seconds);
      point = stop;
      point_seconds = 0;
    }
    if (stop == tail_start && can.fork && !whole) {
      if (is_reference) {
        reference_tail_ = session.memory().fork();
        row.prompt_quality = PromptQuality{.divergence = {.tokens = total - tail_start}};
      } else if (reference_tail_ != nullptr) {
        compare_tail(row, session);
      }
    }
    if (interrupted_) break;
  }
  row.prompt_tokens = at;
  row.prefill_rate = rate(at, prefill_seconds);
  if (!interrupted_) {
    std::optional<Session> after_prompt;
    if (can.fork) after_prompt.emplace(session.fork());
    const PrefillProgress report =
        reporter(row, "answer", 0, options_.generate.max_tokens, &session.memory());
    const Generation answer =
        generate(session, tokenizer_, prompt, options_.generate,
                 [&](std::string_view) { return report(std::ssize(session.tokens()) - total, 0); });
    row.text = answer.text;
    row.tokens = answer.tokens;
    row.decode_rate = answer.decode_rate();
    if (is_reference) reference_answer_ = answer.tokens;
    if (after_prompt && row.prompt_quality) compare_answer(row, std::move(*after_prompt));
  }
  row.resident_bytes = session.memory().resident_bytes();
  row.logical_bytes = session.memory().logical_bytes();
  row.peak_bytes = session.memory().peak_bytes();
}

void Comparer::measure_speed(ComparisonRow& row, const Session& session, int64_t tokens,
                             double seconds) {
  SpeedPoint point{.context = session.memory().seen_tokens(),
                   .prefill_rate = rate(tokens, seconds),
                   .decode_rate = measure_decode_rate(session, options_.speed_tokens)};
  row.speed.push_back(point);
}

void Comparer::compare_tail(ComparisonRow& row, const Session& session) {
  const auto reference = reference_tail_->fork();
  const auto tested = session.memory().fork();
  const auto tail = std::span<const int32_t>(options_.tokens).subspan(session.tokens().size());
  const KlDivergence divergence = kl_divergence(
      model_, pool_, *reference, *tested, tail, 64, reporter(row, "divergence"),
      replay_before_steps(model_, pool_, *tested, options_.tokens, std::ssize(session.tokens())));
  row.prompt_quality = PromptQuality{.divergence = summarise(divergence)};
}

void Comparer::compare_answer(ComparisonRow& row, Session after_prompt) {
  PromptQuality& quality = *row.prompt_quality;
  quality.answer_tokens = static_cast<int64_t>(reference_answer_.size());
  quality.same_tokens =
      std::ranges::mismatch(row.tokens, reference_answer_).in1 - row.tokens.begin();
  int64_t agreeing = 0;
  for (const int32_t token : reference_answer_) {
    quality.answer_log_prob += log_probability(after_prompt.logits(), token);
    agreeing += argmax(after_prompt.logits()) == token;
    after_prompt.append({&token, 1});
  }
  if (quality.answer_tokens == 0) return;
  quality.answer_log_prob /= static_cast<double>(quality.answer_tokens);
  quality.answer_agreement =
      static_cast<double>(agreeing) / static_cast<double>(quality.answer_tokens);
}

void Comparer::measure_perplexity(ComparisonRow& row, bool is_reference, const MemoryMaker& make) {
  row.prompt_tokens = static_cast<int64_t>(options_.tokens.size());
  int64_t run = 0;
  const PrefillProgress report = reporter(row, "perplexity");
  report(0, row.prompt_tokens);
  const PerplexityResult result = perplexity(model_, pool_, make, options_.tokens,
                                             options_.perplexity, [&](int64_t done, int64_t all) {
                                               run = done;
                                               return report(done, all);
                                             });
  row.prefill_rate = rate(run, result.seconds);
  row.resident_bytes = result.resident_bytes;
  row.logical_bytes = result.logical_bytes;
  row.peak_bytes = result.peak_bytes;
  if (!result.complete) return;
  PerplexityQuality quality{.tokens = result.tokens,
                            .perplexity = result.perplexity(),
                            .perplexity_error = result.perplexity_error(),
                            .mean_nll = result.mean_nll};
  if (is_reference) reference_perplexity_ = quality.perplexity;
  if (reference_perplexity_) quality.ratio = quality.perplexity / *reference_perplexity_;
  if (options_.divergence && is_reference) {
    quality.divergence = KlSummary{.tokens = row.prompt_tokens};
  } else if (options_.divergence && reference_perplexity_) {
    const auto reference =
        MemoryRegistry::builtin().build(options_.reference, model_.memory_shape());
    const auto tested = make();
    const KlDivergence divergence = kl_divergence(
        model_, pool_, *reference, *tested, options_.tokens, 64, reporter(row, "divergence"),
        replay_before_steps(model_, pool_, *tested, options_.tokens, 0));
    if (divergence.complete) quality.divergence = summarise(divergence);
  }
  row.perplexity_quality = quality;
}

}  // namespace

Comparison compare_memories(DecoderModel& model, ThreadPool& pool, const Tokenizer& tokenizer,
                            const ComparisonOptions& options, const ComparisonProgress& progress) {
  return Comparer(model, pool, tokenizer, options, progress).run();
}

}  // namespace mneme
