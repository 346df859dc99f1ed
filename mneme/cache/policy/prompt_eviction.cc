#include "mneme/cache/policy/prompt_eviction.h"

#include <algorithm>
#include <numeric>

#include "mneme/cache/policy/policy_state.h"
#include "mneme/core/error.h"
#include "mneme/kernels/select.h"

namespace mneme {

PromptEviction::PromptEviction(const MemoryShape& shape, const EvictionOptions& options)
    : CachePolicy(shape), options_(options) {
  MNEME_CHECK(options.window >= 0 && options.sink >= 0, options.name,
              ": window and sink must not be negative, got ", options.window, " and ",
              options.sink);
  options.budget.check(options.name, options.window + options.sink);
  for (int64_t layer = 0; layer < shape.layers(); ++layer)
    global_index_.push_back(shape.sees_all(layer) ? global_layers_++ : -1);
  limits_.assign(static_cast<size_t>(shape.layers()), -1);
  next_limits_ = limits_;
}

void PromptEviction::cleared() {
  limits_.assign(limits_.size(), -1);
  next_limits_ = limits_;
}
void PromptEviction::committed() { limits_ = next_limits_; }
void PromptEviction::aborted() { next_limits_ = limits_; }

std::string PromptEviction::refusal(int64_t tokens, int64_t end, int64_t following) const {
  if (tokens == 1 && following == 0) return "";
  return options_.budget.refusal(options_.name, options_.window + options_.sink, end + following);
}

int64_t PromptEviction::limit(int64_t layer, int64_t length) const {
  const int64_t rows = std::min(options_.budget.of(length), length);
  const int64_t own =
      layer_rows(global_index_[static_cast<size_t>(layer)], global_layers_, rows, length);
  return std::clamp(own, std::min(length, options_.window + options_.sink), length);
}

int64_t PromptEviction::settled_rows(int64_t layer, int64_t length) const {
  return shape().sees_all(layer) ? limit(layer, length) : length;
}

void PromptEviction::enter(const PolicyStep& step, const PolicyRows& rows) {
  const int64_t layer = step.layer.layer;
  const auto at = static_cast<size_t>(layer);
  cuts_ = false;
  if (!shape().sees_all(layer) || options_.budget.everything()) return;
  if (step.text_ends()) next_limits_[at] = limit(layer, step.end());
  const bool now = step.text_ends() || (step.decodes() && cuts_while_decoding());
  cuts_ = now && next_limits_[at] >= 0 && rows.of(layer, 0).rows() > next_limits_[at];
}

void PromptEviction::leave(const PolicyStep& step, const SeenWeights& seen, PolicyRows& rows) {
  if (!cuts_) return;
  const int64_t layer = step.layer.layer;
  thread_local SelectScratch scratch;
  std::vector<float> scores;
  std::vector<int32_t> best;
  std::vector<int64_t> indices;
  const int64_t limit = next_limits_[static_cast<size_t>(layer)];
  for (int64_t head = 0; head < shape().kv_heads; ++head) {
    const PagedRows& held = rows.of(layer, head);
    const int64_t sink = std::min(options_.sink, held.rows());
    const int64_t judged = std::max(sink, held.rows() - newest_rows(limit));
    const int64_t fixed = sink + held.rows() - judged;
    scores.assign(static_cast<size_t>(judged), 0.0f);
    score({step, seen, held, head}, scores);
    const int64_t count = std::clamp<int64_t>(limit - fixed, 0, judged - sink);
    if (count == judged - sink - 1) {
      const int64_t weakest =
          sink + select_weakest(std::span(scores).subspan(static_cast<size_t>(sink)));
      dropped(layer, head, weakest);
      rows.drop(layer, head, weakest);
      continue;
    }
    best.resize(static_cast<size_t>(count));
    select_top_k(std::span(scores).subspan(static_cast<size_t>(sink)), count, SelectOrder::kIndex,
                 best, scratch);
    indices.resize(static_cast<size_t>(sink));
    std::iota(indices.begin(), indices.end(), int64_t{0});
    for (const int32_t row : best) indices.push_back(sink + row);
    for (int64_t row = judged; row < held.rows(); ++row) indices.push_back(row);
    kept(layer, head, indices);
    rows.keep(layer, head, indices);
  }
}

std::vector<StateTensor> PromptEviction::save_state() const {
  return {state_tensor("policy_limits", limits_)};
}

void PromptEviction::load_state(const TensorSource& state) {
  limits_ = read_state<int64_t>(state, "policy_limits", shape().layers());
  next_limits_ = limits_;
}

}  // namespace mneme
