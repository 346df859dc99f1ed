// What every sequence memory checks and says alike about its steps, so that two memories refuse the
// same step in the same words. Tests: those of the memories (paged_memory_test.cc,
// landmark_memory_test.cc).
#pragma once

#include <cstdint>
#include <string>

#include "mneme/cache/memory.h"
#include "mneme/core/function_ref.h"
#include "mneme/core/thread_pool.h"

namespace mneme {

// Throws Error, beginning with `who`, where no memory can be of this shape.
void check_shape(const char* who, const MemoryShape& shape);

// The plan of `tokens` more at `length`, refused where positions end; bytes are still to be filled
// in. Throws Error on a step of no tokens.
StepPlan start_plan(int64_t tokens, int64_t following, int64_t length);

// Refuses a plan whose resident_bytes exceed `budget` (0: no limit).
void refuse_over_budget(const std::string& spec, int64_t budget, StepPlan& plan);

// What begin(), attend() and commit() demand; `step` is the plan under way, of 0 tokens when there
// is none. Throw Error.
void check_begin(const StepPlan& step, const StepPlan& plan, int64_t length);
void check_attend(const StepPlan& step, const LayerStep& rows, int64_t next_layer, int64_t layers);
void check_commit(const StepPlan& step, int64_t next_layer, int64_t layers);

// write(head) for every KV head: on all threads where the step has rows enough to be worth it.
void write_heads(const StepPlan& step, int64_t kv_heads, ThreadPool& pool,
                 FunctionRef<void(int64_t head)> write);

}  // namespace mneme
