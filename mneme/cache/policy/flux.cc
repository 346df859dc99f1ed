#include "mneme/cache/policy/flux.h"

#include <algorithm>
#include <utility>

#include "mneme/cache/policy/policy_state.h"
#include "mneme/core/checked.h"
#include "mneme/core/error.h"

namespace mneme {

RowWindow flux_streaming_window(int64_t sink, int64_t window, int64_t block) {
  MNEME_CHECK(sink > 0 && window > 0 && block > 0,
              "flux: sink, window and block must be positive, got ", sink, ", ", window, " and ",
              block);
  return {.window = ceil_div(window, block) * block,
          .sink = ceil_div(sink, block) * block,
          .block = block};
}

Flux::Flux(const MemoryShape& shape, const FluxOptions& options)
    : CachePolicy(shape),
      options_(options),
      streaming_(flux_streaming_window(options.sink, options.window, options.block)) {
  MNEME_CHECK(options.pool > 0, "flux: pool must be positive, got ", options.pool);
  if (options.routers != "full" && options.routers != "sparse") {
    std::vector<bool> needed;
    for (int64_t layer = 0; layer < shape.layers(); ++layer)
      needed.push_back(shape.sees_all(layer));
    routers_ = FluxRouters::open(options.routers, needed, shape.k_dim);
  }
  cleared();
}

void Flux::cleared() {
  const Route all = routers_ != nullptr            ? Route::kOpen
                    : options_.routers == "sparse" ? Route::kSparse
                                                   : Route::kFull;
  state_ = {.routes = std::vector<Route>(static_cast<size_t>(shape().layers()), all)};
  next_.reset();
}

RowWindow Flux::window(int64_t layer, int64_t head) const {
  const State& now = next_ ? *next_ : state_;
  if (!shape().sees_all(layer) || now.routes[static_cast<size_t>(layer)] != Route::kSparse)
    return CachePolicy::window(layer, head);
  return streaming_;
}

int64_t Flux::unrotated_rows(int64_t tokens) const {
  return routed() ? 0 : std::min(tokens, options_.pool);
}

void Flux::enter(const PolicyStep& step, const PolicyRows&) {
  if (routed()) return;
  if (!next_) {
    next_ = state_;
    next_->approximate = step.following > 0;
  }
  const int64_t layer = step.layer.layer;
  Route route = Route::kFull;
  if (shape().sees_all(layer)) {
    const MemoryShape& s = shape();
    const int64_t rows = unrotated_rows(step.tokens);
    const RowSpan all[] = {{0, rows}};
    std::vector<float> mean = flux_pool(step.layer.first_unrotated, all, s.q_heads, s.k_dim);
    const std::vector<float> last = flux_pool(step.layer.last_unrotated, all, s.q_heads, s.k_dim);
    for (size_t i = 0; i < mean.size(); ++i) mean[i] = (mean[i] + last[i]) / 2;
    route = routers_->of(layer)->chooses_full(mean) ? Route::kFull : Route::kSparse;
  }
  next_->routes[static_cast<size_t>(layer)] = route;
}

void Flux::committed() {
  if (next_) state_ = *std::exchange(next_, std::nullopt);
}

std::vector<StateTensor> Flux::save_state() const {
  std::vector<int32_t> routes;
  for (const Route route : state_.routes) routes.push_back(static_cast<int32_t>(route));
  return {state_tensor("policy_routes", routes),
          state_tensor("policy_approximate", std::vector<int32_t>{state_.approximate})};
}

void Flux::load_state(const TensorSource& state) {
  State loaded = {.approximate = read_state<int32_t>(state, "policy_approximate", 1)[0] != 0};
  for (const int32_t route : read_state<int32_t>(state, "policy_routes", shape().layers())) {
    MNEME_CHECK(route >= -1 && route <= 1, state.origin(),
                ": policy_routes: expected -1 (open), 0 (sparse) or 1 (full), got ", route);
    loaded.routes.push_back(static_cast<Route>(route));
  }
  const auto open = std::ranges::count(loaded.routes, Route::kOpen);
  MNEME_CHECK(open == 0 || open == shape().layers(), state.origin(), ": policy_routes: ", open,
              " of ", shape().layers(), " layers are open, expected none or all");
  MNEME_CHECK(open == 0 || routers_ != nullptr, state.origin(),
              ": policy_routes: layers are open, but no routers are there to decide");
  state_ = std::move(loaded);
  next_.reset();
}

int64_t Flux::state_bytes() const {
  return shape().layers() * static_cast<int64_t>(sizeof(Route)) + 1;
}

}  // namespace mneme
