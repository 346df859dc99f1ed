// Rows that a memory let go and that its next step needs: the session runs the beginning of the text
// through the model once more and hands the rows over.
//
//   n = replay.wanted(tokens, following)  0: that step (memory.h, StepPlan) needs nothing
//   pass = replay.make_pass(...)          a memory for the n first tokens, in one step, thrown away
//                                         afterwards
//   replay.take(*pass)                    what was needed is copied; the step may begin
//
// Exact where those tokens were a text of their own or the beginning of one, since their rows depend on
// nothing after them. Implementations: alisa_memory.h. Tests: runtime/prefix_replay_test.cc.
#pragma once

#include <cstdint>
#include <memory>

#include "mneme/cache/memory.h"

namespace mneme {

class PrefixReplay {
 public:
  virtual ~PrefixReplay() = default;
  virtual int64_t wanted(int64_t tokens, int64_t following) const = 0;
  virtual std::unique_ptr<SequenceMemory> make_pass(int64_t tokens, int64_t following) const = 0;
  // `pass` has seen the tokens that were wanted. The rows last for one step.
  virtual void take(const SequenceMemory& pass) = 0;
};

}  // namespace mneme
