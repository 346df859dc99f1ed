#include "mneme/cache/policy/quest.h"

#include <limits>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"

namespace mneme {

Quest::Quest(const MemoryShape& shape, const QuestOptions& options)
    : CachePolicy(shape), options_(options) {
  MNEME_CHECK(options.page >= 1, "quest: a page must hold rows, got ", options.page);
  MNEME_CHECK(options.budget >= options.page, "quest: a budget of ", options.budget,
              " rows holds no page of ", options.page);
  MNEME_CHECK(options.dense >= 0, "quest: dense layers must not be negative, got ", options.dense);
  pages_ = options.budget / options.page;
  bounds_.assign(static_cast<size_t>(shape.layers() * shape.kv_heads),
                 BlockBounds(shape.k_dim, options.page));
  chosen_.resize(bounds_.size());
}

void Quest::enter(const PolicyStep& step, const PolicyRows& rows) {
  const int64_t layer = step.layer.layer;
  const auto chosen = std::span(chosen_).subspan(shape().head_index(layer, 0),
                                                 static_cast<size_t>(shape().kv_heads));
  selection_.clear();
  for (auto& pages : chosen) pages.clear();
  if (!chooses(layer)) return;
  // Rows past the step's first position, if they were ever counted, were trimmed or their step failed.
  for (int64_t head = 0; head < shape().kv_heads; ++head)
    bounds_[shape().head_index(layer, head)].follow(rows.of(layer, head), step.first_position);
  if (!step.decodes() || ceil_div(step.end(), options_.page) <= pages_) return;
  for (int64_t head = 0; head < shape().kv_heads; ++head)
    choose(step, head, chosen[static_cast<size_t>(head)]);
  selection_.choose(rows, layer, options_.page, chosen);
}

void Quest::choose(const PolicyStep& step, int64_t head, std::vector<int32_t>& pages) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const BlockBounds& bounds = bounds_[shape().head_index(step.layer.layer, head)];
  const int64_t ratio = shape().q_heads / shape().kv_heads;
  // As long as there is room for, so that they grow when the bounds do and not in between; what lies
  // behind the pages there are is never among the best.
  scores_.assign(static_cast<size_t>(bounds.room()), -kInfinity);
  const auto scores = std::span(scores_).first(static_cast<size_t>(bounds.blocks()));
  for (int64_t h = head * ratio; h < (head + 1) * ratio; ++h)
    bounds.raise(step.q + h * shape().k_dim, scores);
  scores.back() = kInfinity;
  pages.resize(static_cast<size_t>(pages_));
  select_top_k(scores_, pages_, SelectOrder::kIndex, pages, scratch_);
}

void Quest::cleared() {
  for (BlockBounds& bounds : bounds_) bounds.forget();
  for (auto& chosen : chosen_) chosen.clear();
}

void Quest::load_state(const TensorSource&) { cleared(); }

int64_t Quest::state_bytes() const {
  int64_t bytes = 0;
  for (const BlockBounds& bounds : bounds_) bytes += bounds.bytes();
  return bytes;
}

int64_t Quest::settled_state_bytes(int64_t length) const {
  int64_t bytes = 0;
  for (int64_t layer = 0; layer < shape().layers(); ++layer) {
    if (chooses(layer))
      bytes += shape().kv_heads * BlockBounds::bytes_for(shape().k_dim, options_.page, length);
  }
  return bytes;
}

}  // namespace mneme
