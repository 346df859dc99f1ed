#include "mneme/cache/query_window.h"

#include <algorithm>

#include "mneme/core/error.h"

namespace mneme {

QueryWindow::QueryWindow(int64_t layers, int64_t queries, int64_t width)
    : queries_(queries),
      width_(width),
      kept_(static_cast<size_t>(layers * queries * width)),
      counts_(static_cast<size_t>(layers)) {
  MNEME_ASSERT(layers > 0 && queries > 0 && width > 0);
}

void QueryWindow::push(int64_t layer, const float* q, int64_t count) {
  std::vector<float> joined;
  const std::span<const float> newest = this->newest(layer, q, count, joined);
  std::copy(newest.begin(), newest.end(), kept_.begin() + layer * queries_ * width_);
  counts_[static_cast<size_t>(layer)] = static_cast<int64_t>(newest.size()) / width_;
}

std::span<const float> QueryWindow::newest(int64_t layer, const float* q, int64_t count,
                                           std::vector<float>& joined) const {
  const int64_t before = counts_[static_cast<size_t>(layer)];
  if (count >= queries_ || before == 0) {
    const int64_t taken = std::min(count, queries_);
    return {q + (count - taken) * width_, static_cast<size_t>(taken * width_)};
  }
  const int64_t old = std::min(before, queries_ - count);
  const auto from = kept_.begin() + (layer * queries_ + before - old) * width_;
  joined.assign(from, from + old * width_);
  joined.insert(joined.end(), q, q + count * width_);
  return joined;
}

}  // namespace mneme
