// A sequence on a model that was trained with landmark tokens (papers/39 sections 3.2 and 3.3): the
// caller's tokens contain none, the model sees one after every `block` - 1 of them. A landmark
// follows its block in the same step, takes a position, and its output is discarded.
//
//   user    t t t t t t
//   model   t t t L t t t L        block = 4
//
// So the memory's length is the number of positions, not of the user's tokens. The model is a
// function, that of a DecoderModel or any other; the memory is the model's, a LandmarkMemory whose
// landmarks are tokens. Tests: landmark_session_test.cc, landmark_golden_test.cc.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "mneme/cache/landmark_memory.h"
#include "mneme/core/thread_pool.h"
#include "mneme/models/decoder.h"

namespace mneme {

class LandmarkSession {
 public:
  // One step of the model through the memory: the logits of all its tokens, [tokens, vocabulary],
  // valid until the next step.
  using Forward = std::function<std::span<const float>(std::span<const int32_t> tokens,
                                                       LandmarkMemory& memory)>;

  // `memory`: its options say how long blocks are and which token is the landmark. It may already
  // hold positions: `tokens` are then the user's among them. Throws Error where the landmarks are no
  // tokens, or tokens and length do not agree.
  LandmarkSession(Forward forward, std::unique_ptr<LandmarkMemory> memory,
                  std::vector<int32_t> tokens = {});
  // Steps of this model; model and pool must outlive the session.
  static Forward through(DecoderModel& model, ThreadPool& pool);

  // The user's tokens, without landmarks.
  const std::vector<int32_t>& tokens() const { return tokens_; }
  const LandmarkMemory& memory() const { return *memory_; }
  LandmarkMemory& memory() { return *memory_; }

  // Appends tokens as one step each `chunk` of them (0: all in one): the queries of a step share the
  // blocks that are stored when it begins. Returns the logits of the user's tokens, [tokens,
  // vocabulary], in order. Throws Error where a token is the landmark; nothing is run then.
  std::vector<float> append(std::span<const int32_t> tokens, int64_t chunk = 0);

  // What the model sees of these tokens when they begin at `position`; is_landmark gets a 1 for every
  // landmark among them.
  std::vector<int32_t> with_landmarks(std::span<const int32_t> tokens, int64_t position,
                                      std::vector<uint8_t>& is_landmark) const;
  // Positions that `tokens` of the user take from the beginning of a text on.
  static int64_t positions_of(int64_t tokens, int64_t block) {
    return tokens + tokens / (block - 1);
  }

 private:
  Forward forward_;
  std::unique_ptr<LandmarkMemory> memory_;
  std::vector<int32_t> tokens_;
};

}  // namespace mneme
