// Sliding window with attention sinks: the newest `window` positions and the first `sink` ones
// (Xiao et al. 2023, "Efficient Streaming Language Models with Attention Sinks"). Keys keep the
// rotary position they were written with, so a text may go on past the trained context: window rows
// stay at distances below `window`; the distance of the sinks grows with the text.
//
//   query p sees j  iff  j <= p and (j > p - window or j < sink)
//
// Memory: O(window + sink) rows a head, whatever the length. Tests: paged_memory_test.cc.
#pragma once

#include "mneme/cache/cache_policy.h"
#include "mneme/core/error.h"

namespace mneme {

class Sliding final : public CachePolicy {
 public:
  Sliding(const MemoryShape& shape, int64_t window, int64_t sink)
      : CachePolicy(shape), window_(window), sink_(sink) {
    MNEME_CHECK(window > 0, "sliding: window must be positive, got ", window);
    MNEME_CHECK(sink >= 0, "sliding: sink must not be negative, got ", sink);
  }

  std::unique_ptr<CachePolicy> clone() const override { return std::make_unique<Sliding>(*this); }
  // A layer with a narrower window of its own keeps it, and no sinks: the model never saw them
  // there.
  RowWindow window(int64_t layer, int64_t head) const override {
    const RowWindow own = CachePolicy::window(layer, head);
    if (own.window > 0 && own.window <= window_) return own;
    return {.window = window_, .sink = sink_};
  }
  bool bounded() const override { return true; }

 private:
  int64_t window_, sink_;
};

}  // namespace mneme
