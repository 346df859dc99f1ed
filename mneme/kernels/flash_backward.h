// The parts of one call of the backward pass (papers/01 section 3): a task is a block of keys,
// whose gradients it owns, and walks over the query tiles that see it. Gradients of queries are
// sums over key blocks: tasks add to a tile in the order of the blocks, each waiting for its turn,
// so that the sums are the same for any number of threads and no buffer is held for each of them.
// Tests: flash_backward_test.cc.
#pragma once

#include <atomic>
#include <cstdint>

#include "mneme/kernels/flash_plan.h"

namespace mneme {

struct BackwardCall {
  const FlashPlan& plan;
  ConstHeads dout, q, k, v, o;
  const void* lse = nullptr;
  MutableHeads dq, dk, dv;
  // By tile of the plan:
  float* dq_sums = nullptr;  // [tiles, sum_floats()]: of a tile [head_dim, kFlashRows]
  float* deltas = nullptr;   // [tiles, kFlashRows] sum of dout * o over a row, 0 past the rows
  std::atomic<int32_t>* turns = nullptr;  // [tiles] key blocks that have been added to dq_sums

  int64_t sum_floats() const { return (plan.config.head_dim + 3) / 4 * 4 * kFlashRows; }
};

// A block of keys of one KV head.
struct KeyTask {
  const FlashSequence* sequence = nullptr;
  int64_t kv_head = 0, block = 0;  // keys block * kFlashKeys ...
};

// Floats of memory of a worker.
int64_t backward_floats(const FlashPlan& plan);
// Fills the deltas of a tile, and dq where no key is seen.
void backward_prepare(const BackwardCall& call, int64_t tile, float* memory);
void backward_keys(const BackwardCall& call, const KeyTask& task, float* memory);

// All of it in float64, row by row (flash_double.cc).
void backward_double(const BackwardCall& call, ThreadPool& pool);

}  // namespace mneme
