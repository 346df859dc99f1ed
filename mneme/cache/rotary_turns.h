// Rotary turns of single rows by distances, from a table that is made once: what a memory uses that
// keeps keys where they can be moved (landmark_memory.h). Turning a query by the distance to a block
// and the block's keys by their places in it gives the scores of both at their positions.
// Tests: landmark_memory_test.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "mneme/cache/memory.h"

namespace mneme {

class RotaryTurns {
 public:
  // For distances |d| <= reach. `layers` as in MemoryShape::rotary: layers with equal settings share
  // a table. Copies share tables.
  RotaryTurns(const std::vector<RotaryPositions>& layers, int64_t dim, int64_t reach);

  // x [dim] turned by `distance` positions -> out (may alias).
  void turn(int64_t layer, const float* x, int64_t distance, float* out) const;

  int64_t bytes() const;

 private:
  struct Table {
    RotaryPositions settings;
    std::vector<float> cosines, sines;  // [reach + 1, dim / 2]
  };
  int64_t dim_, reach_;
  std::vector<std::shared_ptr<const Table>> tables_;  // [layers], or empty: nothing turns
};

}  // namespace mneme
