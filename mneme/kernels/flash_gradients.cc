// The schedule of flash_backward.
#include <algorithm>
#include <memory>
#include <vector>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/kernels/flash_backward.h"
#include "mneme/kernels/paged_attention.h"

namespace mneme {
namespace {

// In the order in which tasks may wait for each other: by block.
std::vector<KeyTask> key_tasks(const FlashPlan& plan) {
  std::vector<KeyTask> tasks;
  int64_t most = 0;  // blocks of a sequence
  for (const FlashSequence& sequence : plan.sequences)
    most = std::max(most, ceil_div(sequence.k_len, task_keys(sequence)));
  for (int64_t block = 0; block < most; ++block) {
    for (const FlashSequence& sequence : plan.sequences) {
      if (block * task_keys(sequence) >= sequence.k_len) continue;
      for (int64_t head = 0; head < plan.config.kv_heads; ++head) {
        tasks.push_back({&sequence, head, block});
      }
    }
  }
  return tasks;
}

}  // namespace

void flash_backward(const FlashAttention& config, const ConstHeads& dout, const ConstHeads& q,
                    const ConstHeads& k, const ConstHeads& v, const ConstHeads& o, const void* lse,
                    const FlashGradients& gradients, AttentionScratch& scratch, ThreadPool& pool) {
  const FlashPlan plan(config);
  BackwardCall call{plan, dout, q, k, v, o, lse, gradients.dq, gradients.dk, gradients.dv};
  if (config.dtype == DType::kF64) return backward_double(call, pool);
  constexpr const char* kWhat = "flash attention backward";
  const int64_t each = backward_floats(plan);
  const int64_t own = checked_mul(each, pool.size(), kWhat);
  const int64_t sums = checked_mul(plan.tiles, call.sum_floats(), kWhat);
  const int64_t deltas = checked_mul(plan.tiles, kFlashRows, kWhat);
  float* memory = scratch.reserve(checked_add(own, checked_add(sums, deltas, kWhat), kWhat));
  call.dq_sums = memory + own;
  call.deltas = call.dq_sums + sums;
  const auto turns = std::make_unique<std::atomic<int32_t>[]>(static_cast<size_t>(plan.tiles));
  call.turns = turns.get();
  const std::vector<KeyTask> tasks = key_tasks(plan);
  pool.run(plan.tiles,
           [&](int64_t tile, int worker) { backward_prepare(call, tile, memory + worker * each); });
  pool.run_in_order(static_cast<int64_t>(tasks.size()), [&](int64_t task, int worker) {
    backward_keys(call, tasks[static_cast<size_t>(task)], memory + worker * each);
  });
}

}  // namespace mneme
