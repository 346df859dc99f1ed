#include "mneme/cache/policy/block_reading.h"

#include "mneme/core/checked.h"

namespace mneme {

BlockReading::BlockReading(const MemoryShape& shape, int64_t block, int64_t blocks)
    : CachePolicy(shape),
      block_(block),
      blocks_(blocks),
      chosen_(static_cast<size_t>(shape.layers())) {}

void BlockReading::enter(const PolicyStep& step, const PolicyRows& rows) {
  const int64_t layer = step.layer.layer;
  selection_.clear();
  if (layer == 0) {
    sparse_ = step.decodes() && ceil_div(step.end(), block_) > blocks_;
    for (auto& blocks : chosen_) blocks.clear();
  }
  const int64_t from = sparse_ ? source(layer) : -1;
  if (from >= 0) selection_.choose(rows, layer, shape().kv_heads, block_, chosen(from));
  if (step.tokens == 1) attended_rows_ += from >= 0 ? selection_.rows() : rows.of(layer, 0).rows();
}

Watch BlockReading::watch(const PolicyStep& step) const {
  return {.queries = sparse_ && chooses(step.layer.layer) ? 1 : 0};
}

void BlockReading::leave(const PolicyStep& step, const SeenWeights& seen, PolicyRows& rows) {
  const int64_t layer = step.layer.layer;
  if (sparse_ && chooses(layer))
    choose(seen, rows.of(layer, 0).rows(), chosen_[static_cast<size_t>(layer)]);
}

}  // namespace mneme
