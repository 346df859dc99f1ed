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

// Keys of a task: enough that loading a tile's rows, every row a line far from the last, costs little
// beside using them; fewer where a sequence is short, so that every thread has a task.
inline constexpr int64_t kTaskKeys = 512;  // at most
inline int64_t task_keys(const FlashSequence& sequence) {
  return sequence.k_len < 4 * kTaskKeys ? kTaskKeys / 2 : kTaskKeys;
}

struct BackwardCall {
  const FlashPlan& plan;
  ConstHeads dout, q, k, v, o;
  const void* lse = nullptr;
  MutableHeads dq, dk, dv;
  // By tile of the plan:
  float* dq_sums = nullptr;  // [tiles, sum_floats()]: of a tile [head_dim, kFlashRows]
  float* deltas = nullptr;   // [tiles, kFlashRows] sum of dout * o over a row, 0 past the rows
  std::atomic<int32_t>* turns = nullptr;  // [tiles] key blocks that have been added to dq_sums

  int64_t sum_floats() const { return (plan.config.head_dim + 15) / 16 * 16 * kFlashRows; }
};

// A block of keys of one KV head.
struct KeyTask {
  const FlashSequence* sequence = nullptr;
  int64_t kv_head = 0, block = 0;  // keys block * task_keys(*sequence) ...
};

// What a worker holds.
struct BackwardMemory {
  BackwardMemory(const FlashPlan& plan, FloatCarver& carver)
      : width((plan.config.head_dim + 15) / 16 * 16),
        q_rows(carver.take(kFlashRows * width)),
        dout_rows(carver.take(kFlashRows * width)),
        q(carver.take(kFlashRows * width)),
        dout(carver.take(kFlashRows * width)),
        o(carver.take(kFlashRows * width)),
        weights(carver.take(kTaskKeys * kFlashRows)),
        slopes(carver.take(kTaskKeys * kFlashRows)),
        bends(carver.take(plan.cap > 0 ? kTaskKeys * kFlashRows : 0)),
        narrow(carver.take(plan.config.dtype == DType::kBF16 ? kTaskKeys * kFlashRows : 0)),
        keys(carver.take(kTaskKeys * width)),
        values(carver.take(kTaskKeys * width)),
        key_pairs(carver.take(plan.config.dtype == DType::kBF16 ? kTaskKeys / 2 * width : 0)),
        dk(carver.take(kTaskKeys * width)),
        dv(carver.take(kTaskKeys * width)) {}

  int64_t width;              // head_dim rounded up to whole vectors
  float *q_rows, *dout_rows;  // [kFlashRows, width]
  float *q, *dout, *o;        // [width, kFlashRows]
  float* weights;             // [kTaskKeys, kFlashRows]: scores, then weights
  float* slopes;              // [kTaskKeys, kFlashRows]: gradients of weights, then of scores
  float* bends;               // [kTaskKeys, kFlashRows]: derivatives of the softcap
  float* narrow;              // [kTaskKeys, kFlashRows]: rows of bf16
  float *keys, *values;       // [kTaskKeys, width], where they cannot be read in place
  float* key_pairs;           // [kTaskKeys / 2, width]
  float *dk, *dv;             // [kTaskKeys, width]
};

// A tile's rows as the key blocks need them.
struct alignas(64) TileRows {
  RowLanes lanes;
  float lse[kFlashRows];  // +infinity past the rows, so that weights there are 0
};

// Floats of a BackwardMemory.
int64_t backward_floats(const FlashPlan& plan);
// Fills the deltas of a tile, and dq where no key is seen.
void backward_prepare(const BackwardCall& call, int64_t tile, float* memory);
void backward_keys(const BackwardCall& call, const KeyTask& task, float* memory);

// All of it in float64, row by row (flash_double.cc).
void backward_double(const BackwardCall& call, ThreadPool& pool);

}  // namespace mneme
