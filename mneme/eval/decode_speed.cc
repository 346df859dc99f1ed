#include "mneme/eval/decode_speed.h"

#include <chrono>

#include "mneme/core/error.h"
#include "mneme/runtime/sampler.h"

namespace mneme {

double measure_decode_rate(const Session& session, int64_t tokens) {
  MNEME_CHECK(tokens >= 1, "decode rate: expected a number of tokens above 0, got ", tokens);
  MNEME_CHECK(!session.logits().empty(), "decode rate: the session has no tokens yet");
  const SequenceMemory& memory = session.memory();
  if (!memory.capabilities().fork) return 0;
  Session probe = session.fork();
  // Where rows must be run again, plans refuse until the session has done so.
  const StepPlan all = memory.plan(tokens + 1);
  const bool replays = !all.out_of_reach && probe.memory().prefix_replay() != nullptr;
  if (!all.possible() && !replays) return 0;
  std::chrono::steady_clock::time_point start;
  for (int64_t i = 0; i <= tokens; ++i) {
    if (i == 1) start = std::chrono::steady_clock::now();
    const int32_t token = argmax(probe.logits());
    probe.append({&token, 1});
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
}

}  // namespace mneme
