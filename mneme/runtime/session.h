// One sequence on a model: its tokens, its memory, the logits after its last token.
//
// Where the memory has a prompt filter (cache/prompt_filter.h), a text of several tokens goes through
// the model's first layers and only the tokens chosen there reach the memory, at new positions: the
// memory then holds fewer tokens than the session. A text that is appended later makes the filter
// choose anew from everything. Tests: session_test.cc, prompt_filter_test.cc.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "mneme/core/thread_pool.h"
#include "mneme/models/decoder.h"

namespace mneme {

// Called after each step of a long prompt with the tokens done so far; false stops (the session
// keeps what is done).
using PrefillProgress = std::function<bool(int64_t done, int64_t total)>;

class Session {
 public:
  static constexpr int64_t kDefaultChunk = 512;
  // Chunk: what suits the memory, kDefaultChunk or (Capabilities::whole_text) the whole text.
  static constexpr int64_t kChosenChunk = 0;

  // `memory` may already hold tokens: then `tokens` are those it has seen, memory->length() of them
  // and those that its prompt filter left out.
  Session(DecoderModel& model, ThreadPool& pool, std::unique_ptr<SequenceMemory> memory,
          std::vector<int32_t> tokens = {});

  const std::vector<int32_t>& tokens() const { return tokens_; }
  const SequenceMemory& memory() const { return *memory_; }
  SequenceMemory& memory() { return *memory_; }

  // Runs tokens in chunks; logits() are then those after the last one. `following` tokens of the same
  // text will be appended later: a memory that judges whole texts waits for them. Refused steps
  // throw Error; what came before stays. Returns how many tokens were run: fewer than given only
  // when `progress` stopped it.
  int64_t append(std::span<const int32_t> tokens, int64_t chunk = kChosenChunk,
                 const PrefillProgress& progress = {}, int64_t following = 0);

  // Hands out every row of logits: visit(position of the token, its logits [vocabulary]). Every
  // chunk counts as a text of its own, so that a memory that lets rows go when a text ends answers
  // the next chunk from what it kept.
  void append_visiting(
      std::span<const int32_t> tokens, int64_t chunk,
      const std::function<void(int64_t position, std::span<const float> logits)>& visit);

  // Makes the session hold exactly `tokens`, reusing what it has: the common prefix stays (at least
  // the last token is run again, so that logits exist), the rest is trimmed away and run. A memory
  // that cannot be trimmed so far is not touched: throws Error with the reason. Returns the number
  // of tokens reused.
  int64_t advance_to(std::span<const int32_t> tokens, int64_t chunk = kChosenChunk,
                     const PrefillProgress& progress = {});

  // Logits after the last token, [vocabulary]; empty before the first.
  std::span<const float> logits() const { return logits_; }

  // A second session with the same content; rows are shared until one side writes.
  Session fork() const;

 private:
  // The part of `tokens` that the memory's filter chooses, nothing where `progress` stopped it;
  // pass_bytes gets the most that its pass held.
  std::vector<int32_t> filtered(const PromptFilter& filter, std::span<const int32_t> tokens,
                                int64_t chunk, const PrefillProgress& progress,
                                int64_t& pass_bytes);
  int64_t append_filtered(std::span<const int32_t> tokens, int64_t chunk,
                          const PrefillProgress& progress);
  // Through the memory as they are; what was run is appended to `seen`.
  int64_t run(std::span<const int32_t> tokens, int64_t chunk, const PrefillProgress& progress,
              int64_t following, std::vector<int32_t>& seen);

  DecoderModel* model_;
  ThreadPool* pool_;
  std::unique_ptr<SequenceMemory> memory_;
  std::vector<int32_t> tokens_;
  std::vector<float> logits_;
};

}  // namespace mneme
