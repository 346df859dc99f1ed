#include "mneme/runtime/prefix_replay.h"

#include "mneme/cache/prefix_replay.h"
#include "mneme/core/error.h"

namespace mneme {

int64_t replay_prefix(DecoderModel& model, ThreadPool& pool, SequenceMemory& memory,
                      std::span<const int32_t> text, int64_t tokens, int64_t following) {
  PrefixReplay* const replay = memory.prefix_replay();
  if (replay == nullptr) return 0;
  const int64_t prefix = replay->wanted(tokens, following);
  if (prefix == 0) return 0;
  MNEME_CHECK(prefix <= std::ssize(text), "replay: ", memory.spec(), " needs the first ", prefix,
              " tokens again, ", text.size(), " are known");
  const std::unique_ptr<SequenceMemory> pass = replay->make_pass(tokens, following);
  const SequenceStep step{text.first(static_cast<size_t>(prefix)), pass.get(), Logits::kNone};
  model.forward({&step, 1}, pool);
  replay->take(*pass);
  return prefix;
}

}  // namespace mneme
