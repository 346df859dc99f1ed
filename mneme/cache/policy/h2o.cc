#include "mneme/cache/policy/h2o.h"

#include <algorithm>
#include <utility>

#include "mneme/cache/policy/policy_state.h"
#include "mneme/core/error.h"

namespace mneme {

H2o::H2o(const MemoryShape& shape, const EvictionOptions& options)
    : PromptEviction(shape, options) {
  sums_.resize(static_cast<size_t>(shape.layers() * shape.kv_heads));
}

std::vector<float>& H2o::next_sums(int64_t layer, int64_t head) {
  if (next_sums_.empty()) next_sums_ = sums_;
  return next_sums_[shape().head_index(layer, head)];
}

void H2o::leave(const PolicyStep& step, const SeenWeights& seen, PolicyRows& rows) {
  const int64_t layer = step.layer.layer;
  if (!shape().sees_all(layer)) return;
  for (int64_t head = 0; head < shape().kv_heads; ++head) {
    const std::span<const double> fresh = seen.sums[static_cast<size_t>(head)];
    std::vector<float>& sums = next_sums(layer, head);
    sums.reserve(fresh.size());  // or it would grow to twice the size
    sums.resize(fresh.size());   // rows that came with this step have none yet
    for (size_t row = 0; row < sums.size(); ++row)
      sums[row] = static_cast<float>(sums[row] + fresh[row]);
  }
  PromptEviction::leave(step, seen, rows);
}

void H2o::score(const Candidates& candidates, std::span<float> scores) {
  const std::vector<float>& sums = next_sums(candidates.step.layer.layer, candidates.head);
  std::copy_n(sums.begin(), scores.size(), scores.begin());
}

void H2o::kept(int64_t layer, int64_t head, std::span<const int64_t> indices) {
  std::vector<float>& sums = next_sums(layer, head);
  for (size_t i = 0; i < indices.size(); ++i) sums[i] = sums[static_cast<size_t>(indices[i])];
  sums.resize(indices.size());
  sums.shrink_to_fit();
}

void H2o::dropped(int64_t layer, int64_t head, int64_t row) {
  std::vector<float>& sums = next_sums(layer, head);
  sums.erase(sums.begin() + row);
}

void H2o::committed() {
  PromptEviction::committed();
  if (!next_sums_.empty()) sums_ = std::exchange(next_sums_, {});
}

void H2o::aborted() {
  PromptEviction::aborted();
  next_sums_ = {};
}

void H2o::cleared() {
  PromptEviction::cleared();
  sums_.assign(sums_.size(), {});
  next_sums_ = {};
}

std::vector<StateTensor> H2o::save_state() const {
  std::vector<StateTensor> state = PromptEviction::save_state();
  for (size_t i = 0; i < sums_.size(); ++i)
    state.push_back(state_tensor(concat("policy_sums_", i), sums_[i]));
  return state;
}

void H2o::load_state(const TensorSource& state) {
  PromptEviction::load_state(state);
  for (size_t i = 0; i < sums_.size(); ++i) {
    // One sum for each row of the head, in a layer that takes part.
    const auto layer = static_cast<int64_t>(i) / shape().kv_heads;
    const std::string head = concat("L", layer, "_H", static_cast<int64_t>(i) % shape().kv_heads);
    const TensorView* rows = state.find(head + "_rows");
    const TensorView* hidden = state.find(head + "_hidden");
    int64_t count = rows != nullptr && shape().sees_all(layer) ? rows->shape.at(0) : 0;
    if (hidden != nullptr) count -= hidden->shape.at(0);
    sums_[i] = read_state<float>(state, concat("policy_sums_", i), count);
  }
  next_sums_ = {};
}

int64_t H2o::state_bytes() const {
  int64_t rows = 0;
  for (const auto* all : {&sums_, &next_sums_})
    for (const auto& sums : *all) rows += std::ssize(sums);
  return rows * static_cast<int64_t>(sizeof(float));
}

int64_t H2o::settled_state_bytes(int64_t length) const {
  int64_t rows = 0;
  for (int64_t layer = 0; layer < shape().layers(); ++layer)
    if (shape().sees_all(layer))
      rows += std::min(length, settled_rows(layer, length)) * shape().kv_heads;
  return rows * static_cast<int64_t>(sizeof(float));
}

}  // namespace mneme
