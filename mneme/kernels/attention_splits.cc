#include "mneme/kernels/attention_splits.h"

#include <algorithm>

#include "mneme/kernels/attention_visible.h"

namespace mneme {

SplitTable::SplitTable(std::span<const std::span<const PageView>> heads, AttentionScratch& scratch)
    : heads_(heads) {
  int64_t pages = 0;
  for (const auto& head : heads) pages += static_cast<int64_t>(head.size());
  const auto count = static_cast<int64_t>(heads.size());
  first_ = scratch.reserve_integers(count + 1 + 2 * (pages + count));
  starts_ = reinterpret_cast<Start*>(first_ + count + 1);
  int64_t used = 0;
  for (int64_t head = 0; head < count; ++head) {
    first_[head] = used;
    int64_t last = -1, row = 0;
    const std::span<const PageView> views = heads[static_cast<size_t>(head)];
    for (size_t page = 0; page < views.size(); ++page) {
      const int64_t split = position_of(views[page], 0) / kSplitPositions;
      if (split != last) starts_[used++] = {static_cast<int64_t>(page), row};
      last = split;
      row += views[page].rows;
    }
    starts_[used++] = {static_cast<int64_t>(views.size()), row};
    most_splits_ = std::max(most_splits_, splits(head, used));
  }
  first_[count] = used;
  for (int64_t at = 1; at < used; ++at) {
    most_pages_ = std::max(most_pages_, starts_[at].page - starts_[at - 1].page);
  }
}

}  // namespace mneme
