#include "mneme/cache/policy/retrieval_heads.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "mneme/cache/policy/policy_state.h"
#include "mneme/core/error.h"
#include "mneme/io/head_scores.h"

namespace mneme {
namespace {

constexpr const char* kState = "policy_full_heads";

}  // namespace

RetrievalHeadsPolicy::RetrievalHeadsPolicy(const MemoryShape& shape,
                                           const RetrievalHeadsOptions& options)
    : CachePolicy(shape), window_(options.window), sink_(options.sink) {
  MNEME_CHECK(window_ > 0, "retrieval-heads: window must be positive, got ", window_);
  MNEME_CHECK(sink_ >= 0, "retrieval-heads: sink must not be negative, got ", sink_);
  MNEME_CHECK(options.share >= 0 && options.share <= 1,
              "retrieval-heads: share must be from 0 to 1, got ", options.share);
  full_.assign(static_cast<size_t>(shape.layers() * shape.kv_heads), 0);
  if (options.file == "none") return;
  const std::vector<HeadId> ranking =
      HeadScores::read(options.file).mean(shape.layers(), shape.q_heads).ranking();
  const auto count =
      static_cast<int64_t>(std::ceil(options.share * static_cast<double>(ranking.size())));
  const int64_t ratio = shape.q_heads / shape.kv_heads;
  for (int64_t i = 0; i < count; ++i) {
    const HeadId& head = ranking[static_cast<size_t>(i)];
    full_[shape.head_index(head.layer, head.head / ratio)] = 1;
  }
}

bool RetrievalHeadsPolicy::holds_everything(int64_t layer, int64_t head) const {
  return full_[shape().head_index(layer, head)] != 0;
}

double RetrievalHeadsPolicy::full_share() const {
  return static_cast<double>(std::accumulate(full_.begin(), full_.end(), 0)) /
         static_cast<double>(full_.size());
}

RowWindow RetrievalHeadsPolicy::window(int64_t layer, int64_t head) const {
  const RowWindow own = CachePolicy::window(layer, head);
  if (holds_everything(layer, head) || (own.window > 0 && own.window <= window_)) return own;
  return {.window = window_, .sink = sink_};
}

bool RetrievalHeadsPolicy::exact() const {
  return std::ranges::all_of(full_, [](int32_t full) { return full != 0; });
}

bool RetrievalHeadsPolicy::bounded() const {
  for (int64_t layer = 0; layer < shape().layers(); ++layer)
    for (int64_t head = 0; head < shape().kv_heads; ++head)
      if (window(layer, head).window == 0) return false;
  return true;
}

std::vector<StateTensor> RetrievalHeadsPolicy::save_state() const {
  return {state_tensor(kState, full_)};
}

void RetrievalHeadsPolicy::load_state(const TensorSource& state) {
  MNEME_CHECK(read_state<int32_t>(state, kState, std::ssize(full_)) == full_, state.origin(),
              ": was saved with other retrieval heads than the file of scores names now");
}

int64_t RetrievalHeadsPolicy::state_bytes() const {
  return std::ssize(full_) * static_cast<int64_t>(sizeof(int32_t));
}

}  // namespace mneme
