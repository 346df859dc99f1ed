// Runs the beginning of a text through the model once more where a memory needs rows from there that it
// let go (cache/prefix_replay.h). Session does it before every step; who calls a model directly with
// such a memory does it likewise. Tests: prefix_replay_test.cc.
#pragma once

#include <cstdint>
#include <span>

#include "mneme/core/thread_pool.h"
#include "mneme/models/decoder.h"

namespace mneme {

// Before a step of `tokens` tokens with `following` more of the same text (memory.h); `text` is what the memory has seen. Returns how many tokens were
// run again, most often 0. Throws Error where the text is shorter than what is needed.
int64_t replay_prefix(DecoderModel& model, ThreadPool& pool, SequenceMemory& memory,
                      std::span<const int32_t> text, int64_t tokens, int64_t following);

}  // namespace mneme
