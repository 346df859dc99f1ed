// How far a memory moves the model's next-token distribution: KL(reference || tested) in nats,
// token by token over the same text. Both memories take part in one step of the model, chunk by
// chunk, so that only `chunk` rows of logits of each are held. Tests: kl_divergence_test.cc.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "mneme/core/thread_pool.h"
#include "mneme/eval/log_probability.h"
#include "mneme/models/decoder.h"
#include "mneme/runtime/session.h"

namespace mneme {

struct KlDivergence {
  std::vector<double> per_token;  // KL at each position of the text, in order
  double top1_agreement = 0;      // share of positions where both would pick the same token
  double reference_nll = 0;       // mean nats a token of the text itself, from its second token on
  double tested_nll = 0;
  bool complete = true;  // false: stopped by `progress`

  double mean() const;
  double max() const;
  // The smallest value that at least a share `q` in (0, 1] of the tokens do not exceed.
  double quantile(double q) const;
  double median() const { return quantile(0.5); }
  double p99() const { return quantile(0.99); }
};

// What is told of it.
struct KlSummary {
  int64_t tokens = 0;
  double mean = 0, median = 0, p99 = 0, max = 0;  // nats
  double top1_agreement = 1;
};
KlSummary summarise(const KlDivergence& divergence);

using BeforeKlStep = std::function<void(int64_t done, int64_t count)>;

// Runs `tokens` through both memories, which must have seen the same number of tokens already. In
// chunks, or one by one where the tested memory decodes apart. `before_step` is called with the
// number of tokens run so far and of those about to run. Throws Error where a memory refuses; both
// then hold what was run before.
KlDivergence kl_divergence(DecoderModel& model, ThreadPool& pool, SequenceMemory& reference,
                           SequenceMemory& tested, std::span<const int32_t> tokens,
                           int64_t chunk = 64, const PrefillProgress& progress = {},
                           const BeforeKlStep& before_step = {});

// For `before_step`: what `tested` has let go of `text`, of which it has seen `seen` tokens, is run
// again (runtime/prefix_replay.h). All arguments must outlive the result.
BeforeKlStep replay_before_steps(DecoderModel& model, ThreadPool& pool, SequenceMemory& tested,
                                 std::span<const int32_t> text, int64_t seen);

}  // namespace mneme
