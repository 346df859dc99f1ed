#include "mneme/runtime/tier_study.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "mneme/core/error.h"
#include "mneme/runtime/prefix_replay.h"

namespace mneme {
namespace {

using Clock = std::chrono::steady_clock;
// Steps of each of the two dense measurements of c0 and c1; the first of them warms up.
constexpr int64_t kCalibrationSteps = 9;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// One sequence on an AlisaMemory, step by step under the clock.
class Decoding {
 public:
  Decoding(DecoderModel& model, ThreadPool& pool, const AlisaOptions& options,
           std::span<const int32_t> text)
      : model_(model), pool_(pool), text_(text), memory_("alisa", model.memory_shape(), options) {}

  AlisaMemory& memory() { return memory_; }

  void read(int64_t tokens) { run(tokens); }

  // The next token of the text: seconds, and its logits.
  double step(std::vector<float>* logits = nullptr) {
    const auto start = Clock::now();
    replay_prefix(model_, pool_, memory_, text_.first(static_cast<size_t>(memory_.length())), 1, 0);
    const std::span<const float> row = run(1);
    const double seconds = seconds_since(start);
    if (logits != nullptr) logits->assign(row.begin(), row.end());
    return seconds;
  }

  std::vector<std::vector<int32_t>> chosen() const {
    std::vector<std::vector<int32_t>> layers;
    for (int64_t layer = 0; layer < memory_.shape().layers(); ++layer) {
      if (!memory_.shape().sees_all(layer)) continue;
      const auto tokens = memory_.chosen(layer);
      layers.emplace_back(tokens.begin(), tokens.end());
    }
    return layers;
  }

 private:
  std::span<const float> run(int64_t tokens) {
    const auto part =
        text_.subspan(static_cast<size_t>(memory_.length()), static_cast<size_t>(tokens));
    const SequenceStep step{part, &memory_, Logits::kLast};
    return model_.forward({&step, 1}, pool_);
  }

  DecoderModel& model_;
  ThreadPool& pool_;
  std::span<const int32_t> text_;
  AlisaMemory memory_;
};

// Seconds of a decoding step whose query reads 2 k tokens, everything in the fast tier.
struct ReadCost {
  double tokens = 0, seconds = 0;
};
ReadCost read_cost(Decoding& run) {
  std::vector<double> seconds;
  run.step();
  for (int64_t i = 1; i < kCalibrationSteps; ++i) seconds.push_back(run.step());
  const int64_t n = run.memory().length();
  const int64_t read = std::min(n, 2 * half_window(n, run.memory().options().ratio));
  return {static_cast<double>(read), median(seconds)};
}

// Seconds that one slow token of one layer takes to be read, with its block's pages given back as
// after every step.
double load_seconds(const TierLayout& layout, const AlisaOptions& options) {
  constexpr int64_t kBlocks = 16;
  const auto fast = BlockStore::in_memory(layout.fast_bytes());
  const auto slow = options.in_file ? BlockStore::in_file(options.folder, layout.slow_bytes())
                                    : BlockStore::in_memory(layout.slow_bytes());
  TieredTokens tokens(layout, fast, slow);
  const RowListAttention& rows = layout.rows;
  const int64_t count = kBlocks * layout.block;
  const std::vector<float> k(static_cast<size_t>(rows.kv_heads * rows.k_dim), 0.5f),
      v(static_cast<size_t>(rows.kv_heads * rows.v_dim), 0.5f);
  tokens.reserve(0, count);
  for (int64_t i = 0; i < count; ++i) tokens.write(i, k.data(), v.data());
  tokens.move({count, 0}, tokens.copies_for({count, 0}));
  std::vector<std::byte> room(static_cast<size_t>(rows.token_bytes()));
  std::vector<float> scratch;
  std::vector<double> seconds;
  for (int repeat = 0; repeat < 5; ++repeat) {
    slow->release_pages();
    const auto start = Clock::now();
    for (int64_t i = 0; i < count; ++i) tokens.load_slow(i, room.data(), scratch);
    seconds.push_back(seconds_since(start) / static_cast<double>(count));
  }
  return median(seconds);
}

double replay_seconds(DecoderModel& model, ThreadPool& pool, const AlisaOptions& options,
                      std::span<const int32_t> prefix) {
  AlisaMemory memory("alisa", model.memory_shape(), options);
  const auto pass = memory.make_pass(2, 0);
  const SequenceStep step{prefix, pass.get(), Logits::kNone};
  const auto start = Clock::now();
  model.forward({&step, 1}, pool);
  return seconds_since(start) / static_cast<double>(prefix.size());
}

TierCosts measure_costs(DecoderModel& model, ThreadPool& pool, const AlisaOptions& tiers,
                        const AlisaOptions& unbounded, std::span<const int32_t> text,
                        int64_t prompt, const ReadCost& far) {
  Decoding near(model, pool, unbounded, text);
  near.read(std::max<int64_t>(2, prompt / 4));
  const ReadCost close = read_cost(near);
  TierCosts costs;
  costs.c1 = std::max(0.0, (far.seconds - close.seconds) / (far.tokens - close.tokens));
  costs.c0 = far.seconds - costs.c1 * far.tokens;
  const MemoryShape& shape = model.memory_shape();
  const TierLayout layout{.rows = {.dtype = tiers.dtype,
                                   .q_heads = shape.q_heads,
                                   .kv_heads = shape.kv_heads,
                                   .k_dim = shape.k_dim,
                                   .v_dim = shape.v_dim},
                          .block = tiers.block,
                          .slow_bits = tiers.slow_bits};
  costs.bytes = static_cast<double>(layout.slow_bytes()) / static_cast<double>(layout.block);
  costs.bandwidth = costs.bytes / load_seconds(layout, tiers);
  costs.replay =
      replay_seconds(model, pool, unbounded, text.first(static_cast<size_t>(prompt / 2)));
  return costs;
}

}  // namespace

TierStudy study_tiers(DecoderModel& model, ThreadPool& pool, const TierStudyOptions& options,
                      const std::function<bool(int64_t, int64_t)>& progress) {
  const auto length = std::ssize(options.tokens);
  MNEME_CHECK(options.steps > 0, "tier study: steps must be positive, got ", options.steps);
  TierStudy study{.prompt = length - options.steps};
  MNEME_CHECK(study.prompt >= 8 * kCalibrationSteps, "tier study: the text has ", length,
              " tokens, expected at least ", 8 * kCalibrationSteps, " more than the ",
              options.steps, " steps");
  MNEME_CHECK(options.memory.capacity > 0 && options.memory.capacity < length,
              "tier study: a fast tier of ", options.memory.capacity, " tokens (0: all) holds all ",
              length, " of the text, so there is nothing to schedule");
  const std::span<const int32_t> text = options.tokens;
  AlisaOptions unbounded = options.memory;
  unbounded.capacity = 0;
  unbounded.schedule = {};
  const int64_t total = 4 * options.steps;
  const auto goes_on = [&](int64_t done) {
    study.complete = !progress || progress(done, total);
    return study.complete;
  };

  std::vector<std::vector<float>> answers(static_cast<size_t>(options.steps));
  ReadCost far;
  {
    Decoding run(model, pool, unbounded, text);
    run.read(study.prompt);
    std::vector<double> seconds;
    for (int64_t step = 0; step < options.steps; ++step) {
      study.trace.push_back(run.chosen());
      seconds.push_back(run.step(&answers[static_cast<size_t>(step)]));
      if (!goes_on(step + 1)) return study;
    }
    for (const double one : seconds) study.unbounded_seconds += one;
    const int64_t middle = study.prompt + options.steps / 2;
    const int64_t read = std::min(middle, 2 * half_window(middle, unbounded.ratio));
    far = {static_cast<double>(read), median(seconds)};
  }
  study.costs = measure_costs(model, pool, options.memory, unbounded, text, study.prompt, far);

  const AlisaMemory layout("alisa", model.memory_shape(), options.memory);
  TierRules rules = layout.rules();
  rules.deletable = study.prompt;
  // Where the prompt ends: nothing has been deleted, the rest follows from the capacity.
  const TierPlacement initial = place_tokens({}, rules, 0, study.prompt, {});
  study.best = search_schedule(study.prompt, study.trace, rules, study.costs, initial);

  TierSchedule slow_only = study.best, half = study.best;
  slow_only.beta = 0;
  half.beta = 0.5;
  half.p2 = std::max(half.p1, options.steps - std::min<int64_t>(4, options.steps / 2));
  const std::pair<const char*, TierSchedule> schedules[] = {
      {"slow tier alone", slow_only}, {"best", study.best}, {"half deleted at the end", half}};
  int64_t done = options.steps;
  for (const auto& [name, schedule] : schedules) {
    TierRun run{.name = name, .schedule = schedule, .predicted = {}, .measured = {}};
    AlisaOptions tiers = options.memory;
    tiers.schedule = schedule;
    tiers.p1_at_overflow = false;
    Decoding decoding(model, pool, tiers, text);
    decoding.read(study.prompt);
    run.predicted = simulate_tiers(study.prompt, study.trace, schedule, rules, study.costs,
                                   decoding.memory().placement());
    run.same_answers = true;
    std::vector<float> logits;
    for (int64_t step = 0; step < options.steps; ++step) {
      const double seconds = decoding.step(&logits);
      run.measured.push_back(decoding.memory().last_step());
      run.measured.back().time = seconds;
      run.fast_tokens = std::max(run.fast_tokens, run.measured.back().fast);
      const std::vector<float>& want = answers[static_cast<size_t>(step)];
      run.same_answers = run.same_answers &&
                         std::memcmp(logits.data(), want.data(), want.size() * sizeof(float)) == 0;
      for (size_t i = 0; i < want.size(); ++i)
        run.largest_difference =
            std::max(run.largest_difference, std::abs(double{logits[i]} - want[i]));
      if (!goes_on(++done)) return study;
    }
    study.runs.push_back(std::move(run));
  }
  return study;
}

}  // namespace mneme
