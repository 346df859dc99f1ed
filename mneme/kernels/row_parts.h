// Splits work on independent rows over a pool: what the vector operations between a decoder's
// matrix products use. Tests: decoder_rows_test.cc.
#pragma once

#include <algorithm>
#include <cstdint>

#include "mneme/core/checked.h"
#include "mneme/core/thread_pool.h"

namespace mneme {

// Floats a task works on: 32 KiB, about three microseconds, several times what handing it out costs
// and little enough to stay in a first-level cache between two passes over a row.
inline constexpr int64_t kRowPartFloats = 8192;

// Calls body(first, count) for parts that cover [0, rows) once, on the caller's thread alone where
// there are fewer than two tasks' worth of floats.
template <typename Body>
void for_row_parts(int64_t rows, int64_t floats_per_row, ThreadPool& pool, const Body& body) {
  const int64_t part = std::max<int64_t>(1, kRowPartFloats / std::max<int64_t>(1, floats_per_row));
  if (pool.size() == 1 || rows <= part) {
    if (rows > 0) body(int64_t{0}, rows);
    return;
  }
  pool.run(ceil_div(rows, part), [&](int64_t task, int) {
    const int64_t first = task * part;
    body(first, std::min(part, rows - first));
  });
}

}  // namespace mneme
