// Flux Attention (2026, arXiv 2604.07394): once per prompt, a router of each layer (flux_router.h)
// decides from the prompt's queries whether the layer reads everything or streams, that is, reads
// the first and the newest blocks:
//
//   query i sees j  iff  j <= i  and  ( j / b < ceil(sink / b)  or  j / b > i / b - ceil(window / b) )
//
// with whole-number division by the block size b; the query's own block counts as one. A layer that
// streams skips the other blocks in the prompt too, and its rows outside are let go. The decision
// belongs to the memory: it is saved, forked, and kept for later turns until everything is
// forgotten. Layers with a window of the model's own are not routed. A text that comes in parts is
// routed by the ends of its first part (approximate()).
//
// Bytes: of a layer that streams, sink + window + block rows at most, in pages of 64; of another, all
// rows. Before the prompt nobody knows which: predictions then count all rows. Tests: flux_test.cc,
// flux_router_test.cc (golden 22), models/flux_model_test.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mneme/cache/cache_policy.h"
#include "mneme/cache/policy/flux_router.h"

namespace mneme {

struct FluxOptions {
  // A safetensors file, or "full" or "sparse": that for every layer, without routers.
  std::string routers = "full";
  int64_t sink = 128, window = 1024, block = 128;
  int64_t pool = 100;  // p: rows at each end of the prompt that routers look at
};

// What a layer that streams sees.
RowWindow flux_streaming_window(int64_t sink, int64_t window, int64_t block);

class Flux final : public CachePolicy {
 public:
  enum class Route : int32_t { kOpen = -1, kSparse = 0, kFull = 1 };

  // Opens the routers. Throws Error naming the option or the tensor that does not fit.
  Flux(const MemoryShape& shape, const FluxOptions& options);

  std::unique_ptr<CachePolicy> clone() const override { return std::make_unique<Flux>(*this); }
  RowWindow window(int64_t layer, int64_t head) const override;
  // Until it is routed: the ends of the whole text are what routers want to see, and layers that
  // stream let rows go before the next layer's come.
  bool wants_whole_text() const override { return !routed(); }
  int64_t unrotated_rows(int64_t tokens) const override;
  void enter(const PolicyStep& step, const PolicyRows& rows) override;
  void committed() override;
  void aborted() override { next_.reset(); }
  void cleared() override;
  // "policy_routes" I32 [layers], "policy_approximate" I32 [1].
  std::vector<StateTensor> save_state() const override;
  void load_state(const TensorSource& state) override;
  int64_t state_bytes() const override;

  // Of each layer; layers with a window of their own count as full.
  std::span<const Route> routes() const { return state_.routes; }
  bool routed() const { return state_.routes.front() != Route::kOpen; }
  // Routed by the first part of a text that came in several.
  bool approximate() const { return state_.approximate; }

 private:
  struct State {
    std::vector<Route> routes;  // [layers]
    bool approximate = false;
  };

  FluxOptions options_;
  RowWindow streaming_;
  std::shared_ptr<const FluxRouters> routers_;  // null: one route for all
  State state_;
  std::optional<State> next_;  // what the step under way decides
};

}  // namespace mneme
