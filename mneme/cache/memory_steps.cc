#include "mneme/cache/memory_steps.h"

#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/core/progress.h"

namespace mneme {
namespace {

constexpr int64_t kMaxPosition = INT32_MAX - 1;  // positions are stored as int32
// Below this, handing rows to other threads costs more than writing them.
constexpr int64_t kParallelWriteTokens = 16;

}  // namespace

void check_shape(const char* who, const MemoryShape& shape) {
  MNEME_CHECK(shape.layers() > 0, who, ": a model needs at least one layer");
  MNEME_CHECK(shape.kv_heads > 0 && shape.q_heads > 0 && shape.q_heads % shape.kv_heads == 0, who,
              ": query heads (", shape.q_heads, ") must be a multiple of KV heads (",
              shape.kv_heads, ")");
  MNEME_CHECK(shape.k_dim > 0 && shape.v_dim > 0, who, ": head sizes must be positive, got ",
              shape.k_dim, " and ", shape.v_dim);
  MNEME_CHECK(shape.context > 0, who, ": context must be positive, got ", shape.context);
  for (const int64_t window : shape.windows)
    MNEME_CHECK(window >= 0, who, ": a layer's window must not be negative, got ", window);
}

StepPlan start_plan(int64_t tokens, int64_t following, int64_t length) {
  MNEME_CHECK(tokens > 0, "plan: a step needs at least one token, got ", tokens);
  MNEME_CHECK(following >= 0, "plan: following tokens must not be negative, got ", following);
  StepPlan plan{.tokens = tokens, .first_position = length, .following = following};
  const int64_t end = checked_add(length, tokens, "plan");
  if (end > kMaxPosition) {
    plan.refusal = concat("positions end at ", kMaxPosition, ", the step would reach ", end);
    plan.out_of_reach = true;
  }
  return plan;
}

void refuse_over_budget(const std::string& spec, int64_t budget, StepPlan& plan) {
  if (budget == 0 || plan.resident_bytes <= budget) return;
  plan.refusal = concat("memory ", spec, " would take ", plan.resident_bytes, " bytes (",
                        bytes_text(plan.resident_bytes), ") at ", plan.first_position + plan.tokens,
                        " tokens, more than the budget of ", budget, " (", bytes_text(budget), ")");
}

void check_begin(const StepPlan& step, const StepPlan& plan, int64_t length) {
  MNEME_CHECK(step.tokens == 0, "begin: the step before has neither been committed nor aborted");
  MNEME_CHECK(plan.possible(), plan.refusal);
  MNEME_CHECK(plan.tokens > 0 && plan.first_position == length, "begin: the plan is for position ",
              plan.first_position, ", the memory is at ", length);
}

void check_attend(const StepPlan& step, const LayerStep& rows, int64_t next_layer, int64_t layers) {
  MNEME_CHECK(step.tokens > 0, "attend: no step has begun");
  MNEME_CHECK(rows.layer == next_layer && rows.layer < layers, "attend: expected layer ",
              next_layer, ", got ", rows.layer);
  MNEME_CHECK(rows.q != nullptr && rows.k != nullptr && rows.v != nullptr && rows.out != nullptr,
              "attend: null rows");
}

void check_commit(const StepPlan& step, int64_t next_layer, int64_t layers) {
  MNEME_CHECK(step.tokens > 0 && next_layer == layers, "commit: only ", next_layer, " of ", layers,
              " layers have taken part in the step");
}

void write_heads(const StepPlan& step, int64_t kv_heads, ThreadPool& pool,
                 FunctionRef<void(int64_t head)> write) {
  if (step.tokens < kParallelWriteTokens) {
    for (int64_t head = 0; head < kv_heads; ++head) write(head);
  } else {
    pool.run(kv_heads, [&](int64_t head, int) { write(head); });
  }
}

}  // namespace mneme
