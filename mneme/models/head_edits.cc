#include "mneme/models/head_edits.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "mneme/core/error.h"
#include "mneme/models/decoder.h"

namespace mneme {
namespace {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

}  // namespace

HeadEdits::HeadEdits(const ModelConfig& config)
    : layers_(config.layers),
      heads_(config.q_heads),
      factors_(static_cast<size_t>(config.layers * config.q_heads), 1.0f),
      uniform_from_(factors_.size(), kNever) {}

size_t HeadEdits::index(const HeadId& head) const {
  MNEME_CHECK(head.layer >= 0 && head.layer < layers_ && head.head >= 0 && head.head < heads_,
              "head edits: head ", head_text(head), " is not one of ", layers_, " layers with ",
              heads_, " query heads");
  return static_cast<size_t>(head.layer * heads_ + head.head);
}

void HeadEdits::scale(const HeadId& head, float factor) {
  MNEME_CHECK(std::isfinite(factor), "head edits: the factor of ", head_text(head),
              " must be a finite number, got ", factor);
  factors_[index(head)] = factor;
}

void HeadEdits::prune(std::span<const HeadId> heads) {
  for (const HeadId& head : heads) scale(head, 0);
}

void HeadEdits::make_uniform(std::span<const HeadId> heads, int64_t from) {
  MNEME_CHECK(from >= 0, "head edits: a position is at least 0, got ", from);
  for (const HeadId& head : heads) uniform_from_[index(head)] = from;
}

void HeadEdits::clear() {
  std::ranges::fill(factors_, 1.0f);
  std::ranges::fill(uniform_from_, kNever);
}

void HeadEdits::queries(const HeadStep& step) {
  for (int64_t head = 0; head < heads_; ++head) {
    const int64_t from = uniform_from_[index({step.layer, head})];
    if (from == kNever) continue;
    for (int64_t t = std::max<int64_t>(0, from - step.first_position); t < step.tokens; ++t)
      std::ranges::fill(step.head(t, head), 0.0f);
  }
}

void HeadEdits::outputs(const HeadStep& step) {
  for (int64_t head = 0; head < heads_; ++head) {
    const float factor = factors_[index({step.layer, head})];
    if (factor == 1) continue;
    for (int64_t t = 0; t < step.tokens; ++t)
      for (float& value : step.head(t, head)) value = factor == 0 ? 0 : value * factor;
  }
}

ScopedHeadHooks::ScopedHeadHooks(DecoderModel& model, HeadHooks* hooks)
    : model_(model), before_(model.head_hooks()) {
  model_.set_head_hooks(hooks);
}

ScopedHeadHooks::~ScopedHeadHooks() { model_.set_head_hooks(before_); }

}  // namespace mneme
