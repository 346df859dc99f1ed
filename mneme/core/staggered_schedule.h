// The order in which Edge-MoE's accelerator walks attention scores (papers/33 section 3.3): `slots`
// queries are worked on at once, each begins one key later than its neighbour and wraps round, so
// every step reads exactly one key row and takes at most one new query row, however many slots
// there are.
//
// Slot s holds query b * slots + s during block b from key s on, and the query of the block before
// until then. Used by kernels/reordered_attention.h; a pure function, so that a cost model can walk
// it without computing anything. Tests: staggered_schedule_test.cc, and the golden schedules of
// papers/33 in kernels/edge_moe_golden_test.cc.
#pragma once

#include <algorithm>
#include <cstdint>

#include "mneme/core/error.h"

namespace mneme {

class StaggeredSchedule {
 public:
  // `rows` >= 0 keys and as many queries; `slots` >= 1, of which no more than `rows` are used: a
  // further one would never receive a query.
  StaggeredSchedule(int64_t rows, int64_t slots)
      : rows_(rows), slots_(std::min(slots, std::max<int64_t>(rows, 1))) {
    MNEME_CHECK(rows >= 0, "staggered schedule: rows must not be negative, got ", rows);
    MNEME_CHECK(slots >= 1, "staggered schedule: expected at least one slot, got ", slots);
  }

  int64_t rows() const { return rows_; }
  int64_t slots() const { return slots_; }
  // Steps until the last query has met every key.
  int64_t steps() const {
    if (rows_ == 0) return 0;
    const int64_t shifted = rows_ + slots_ - 1;
    return shifted / slots_ * rows_ + shifted % slots_;
  }
  // The one key row read at `step`.
  int64_t key(int64_t step) const { return step % rows_; }
  // The query that `slot` works on at `step`, or -1 while it is idle.
  int64_t query(int64_t step, int64_t slot) const {
    const int64_t block = step / rows_ - (key(step) >= slot ? 0 : 1);
    const int64_t query = block * slots_ + slot;
    return block >= 0 && query < rows_ ? query : -1;
  }
  // Whether `slot` takes a new query row at `step`, and whether it meets its query's last key.
  bool begins(int64_t step, int64_t slot) const {
    return key(step) == slot && query(step, slot) >= 0;
  }
  bool ends(int64_t step, int64_t slot) const {
    return (key(step) + 1) % rows_ == slot && query(step, slot) >= 0;
  }

 private:
  int64_t rows_, slots_;
};

}  // namespace mneme
