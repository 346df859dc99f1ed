// Closing ranks: `policy+rerotate`. Rows that are left get consecutive positions and their keys are
// turned to them, as if what was let go had never been there; the next token follows the last row.
// That is how StreamingLLM counts positions (Xiao et al. 2023, section 3.2: within the cache, not
// within the text) and what kvpress calls key re-rotation.
// Of every KV head the keys [rows, k_dim] and positions [rows] change, the values [rows, v_dim] not:
//
//   key at position p, stored as R(p) k   ->   R(p' - p) R(p) k = R(p') k
//
// KV heads may hold different numbers of rows: the one with the most takes positions 0.., and all
// end at the same one, so that distances from a query back to the newest rows are the same in all.
// First rows that a window always shows (its sink) stay at the front.
//
// When: at the end of every text of which a policy let rows go; before a text that only fits so; and
// between tokens or parts of a text once a quarter of the context is gaps, or no position is left.
// Keys are stored again in their encoding each time, and each time lose up to half a step of it: as
// f16 that is nothing, but quantised rows that a policy chooses close ranks only where a text or a
// token finds no position otherwise. Tests: paged_memory_rerotate_test.cc.
#include <algorithm>
#include <limits>

#include "mneme/cache/paged_memory.h"
#include "mneme/cache/rotary_turns.h"
#include "mneme/kernels/hadamard.h"

namespace mneme {
namespace {

// Turning can make an element larger by the square root of 2: more than the encoding takes.
float largest_of(const RowFormat& format) {
  const bool halves =
      format.encoding == RowEncoding::kF16 || (format.quantised() && !format.f32_scales);
  return halves ? 65504.0f : 0x1.fep127f;
}

}  // namespace

int64_t PagedMemory::most_rows() const {
  int64_t most = 0;
  for (const PagedRows& rows : rows_) most = std::max(most, rows.rows());
  return most;
}

int64_t PagedMemory::start_of_step(int64_t tokens, int64_t following) const {
  // While rows are still to be judged by queries at these positions (queries_), they stay.
  if (!rerotate_ || queries_ || policy_->bounded()) return length_;
  const int64_t last_start = shape().context - tokens - std::min(following, shape().context);
  if (length_ <= last_start) return length_;
  const int64_t most = most_rows();
  return most <= last_start ? most : length_;
}

void PagedMemory::maybe_renumber(bool text_ended) {
  if (queries_) return;
  const int64_t gaps = length_ - most_rows(), context = shape().context;
  const bool evicts = policy_->evicts();
  // Rows that a policy keeps for good would be quantised again without end.
  const bool early = !(evicts && format_.quantised()) &&
                     ((text_ended && evicts) || gaps >= std::max<int64_t>(1, context / 4));
  if (gaps > 0 && (early || length_ >= context)) renumber();
}

void PagedMemory::renumber() {
  const int64_t most = most_rows(), gaps = length_ - most, dim = shape().k_dim;
  int64_t fewest = most;
  for (const PagedRows& rows : rows_) fewest = std::min(fewest, rows.rows());
  // Row i of n is at i or above and at length - n + i or below, and goes to most - n + i.
  const RotaryTurns turns(shape().rotary, dim, std::max(gaps, most - fewest));
  const float largest = largest_of(format_);
  for (int64_t layer = 0; layer < shape().layers(); ++layer) {
    const auto turn = [&](int64_t distance, float* k) {
      if (rotate_keys_) hadamard(k, 1, dim, k);  // its own inverse
      turns.turn(layer, k, distance, k);
      if (rotate_keys_) hadamard(k, 1, dim, k);
      std::transform(k, k + dim, k, [&](float x) { return std::clamp(x, -largest, largest); });
    };
    for (int64_t head = 0; head < shape().kv_heads; ++head) {
      rows_[index(layer, head)].renumber(most, policy_->window(layer, head).sink, turn);
    }
  }
  filtered_tokens_ += gaps;
  length_ = most;
  peak_bytes_ = std::max(peak_bytes_, resident_bytes());
}

}  // namespace mneme
