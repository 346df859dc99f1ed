// A first pass over a text that chooses which of its tokens a memory is given: the rest never reaches
// the upper layers. Run by runtime/session.h, in two steps:
//
//   pass = filter.make_pass()           a memory of the model's first layers, thrown away afterwards
//   the whole text through pass         the model stops after those layers
//   filter.chosen(*pass)                indices of the tokens that the second pass runs, from position 0
//
// Implementations: policy/gemfilter.h.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "mneme/cache/memory.h"

namespace mneme {

class PromptFilter {
 public:
  virtual ~PromptFilter() = default;
  // How many of `length` tokens will be chosen; `length` where the text is short enough as it is.
  virtual int64_t kept(int64_t length) const = 0;
  virtual std::unique_ptr<SequenceMemory> make_pass() const = 0;
  // Increasing. `pass` has seen the whole text.
  virtual std::vector<int32_t> chosen(const SequenceMemory& pass) const = 0;
};

}  // namespace mneme
