#include "mneme/cache/paged_memory.h"

#include <algorithm>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/core/progress.h"
#include "mneme/kernels/hadamard.h"

namespace mneme {
namespace {

// Below this, handing rows to other threads costs more than writing them.
constexpr int64_t kParallelWriteTokens = 16;
constexpr int64_t kMaxPosition = INT32_MAX - 1;  // positions are stored as int32

MemoryShape checked(MemoryShape shape) {
  MNEME_CHECK(shape.layers() > 0, "memory: a model needs at least one layer");
  MNEME_CHECK(shape.kv_heads > 0 && shape.q_heads > 0 && shape.q_heads % shape.kv_heads == 0,
              "memory: query heads (", shape.q_heads, ") must be a multiple of KV heads (",
              shape.kv_heads, ")");
  MNEME_CHECK(shape.k_dim > 0 && shape.v_dim > 0, "memory: head sizes must be positive, got ",
              shape.k_dim, " and ", shape.v_dim);
  MNEME_CHECK(shape.context > 0, "memory: context must be positive, got ", shape.context);
  for (const int64_t window : shape.windows)
    MNEME_CHECK(window >= 0, "memory: a layer's window must not be negative, got ", window);
  return shape;
}

// The first position of [begin, end) that is not stored, or -1.
int64_t first_missing(const PagedRows& rows, int64_t begin, int64_t end) {
  for (const PageView& view : rows.views()) {
    if (view.first_position <= begin)
      begin = std::max<int64_t>(begin, view.first_position + view.rows);
  }
  return begin < end ? begin : -1;
}

// What one attend() needs and nobody keeps. One a thread, not one a memory: of many sessions each
// would hold the largest.
struct Scratch {
  AttentionScratch attention;
  std::vector<float> q, k;  // rotated
};
thread_local Scratch scratch;

const float* rotated(const float* rows, int64_t count, int64_t dim, std::vector<float>& out) {
  if (static_cast<int64_t>(out.size()) < count * dim) out.resize(static_cast<size_t>(count * dim));
  hadamard(rows, count, dim, out.data());
  return out.data();
}

}  // namespace

PagedMemory::PagedMemory(std::string spec, const MemoryShape& shape, RowFormat format,
                         std::shared_ptr<const RowPolicy> policy, bool rotate_keys)
    : spec_(std::move(spec)),
      shape_(checked(shape)),
      format_(format),
      policy_(std::move(policy)),
      rotate_keys_(rotate_keys) {
  MNEME_ASSERT(policy_ != nullptr);
  format_.k_dim = shape_.k_dim;
  format_.v_dim = shape_.v_dim;
  format_.validate();
  rows_.assign(static_cast<size_t>(shape_.layers() * shape_.kv_heads), PagedRows(format_));
  views_.resize(static_cast<size_t>(shape_.kv_heads));
}

Capabilities PagedMemory::capabilities() const {
  return {.trim = true,
          .fork = true,
          .persist = true,
          .exact = policy_->exact(),
          .beyond_context = policy_->bounded()};
}

int64_t PagedMemory::settled_pages(int64_t layer, int64_t length) const {
  const Visibility seen = visibility(layer);
  int64_t pages = ceil_div(length, kPageRows);
  if (seen.window == 0) return pages;
  // Full pages with no row below `sink` and none that the query at `length` sees.
  const int64_t first = ceil_div(seen.sink, kPageRows);
  const int64_t last = (length - seen.window + 1) / kPageRows;
  if (length >= seen.window && last > first) pages -= last - first;
  return pages;
}

int64_t PagedMemory::bytes_of(int64_t pages) const {
  return PagedRows::bytes_for_pages(format_, pages) * shape_.kv_heads;
}

int64_t PagedMemory::predict_bytes(int64_t length) const {
  MNEME_CHECK(length >= 0, "predict_bytes: length must not be negative, got ", length);
  int64_t pages = 0;
  for (int64_t layer = 0; layer < shape_.layers(); ++layer) pages += settled_pages(layer, length);
  return bytes_of(pages);
}

StepPlan PagedMemory::plan(int64_t tokens) const {
  MNEME_CHECK(tokens > 0, "plan: a step needs at least one token, got ", tokens);
  StepPlan plan{.tokens = tokens, .first_position = length_};
  const int64_t end = checked_add(length_, tokens, "plan");
  if (end > kMaxPosition) {
    plan.refusal = concat("positions end at ", kMaxPosition, ", the step would reach ", end);
    plan.out_of_reach = true;
    return plan;
  }
  plan.settled_bytes = predict_bytes(end);
  for (const PagedRows& rows : rows_) {
    const int64_t pages = ceil_div(rows.rows() + tokens, kPageRows);
    plan.resident_bytes += PagedRows::bytes_for_pages(format_, pages);
  }
  if (end > shape_.context && !policy_->bounded()) {
    plan.refusal =
        concat("the text is ", end - shape_.context, " tokens longer than the model's context of ",
               shape_.context, "; 'sliding(window=", std::max<int64_t>(1, shape_.context / 2),
               ",sink=0)' would hold it");
    plan.out_of_reach = true;
  } else if (budget_bytes_ > 0 && plan.resident_bytes > budget_bytes_) {
    plan.refusal =
        concat("memory ", spec_, " would take ", plan.resident_bytes, " bytes (",
               bytes_text(plan.resident_bytes), ") at ", end, " tokens, more than the budget of ",
               budget_bytes_, " (", bytes_text(budget_bytes_), ")");
  }
  return plan;
}

void PagedMemory::begin(const StepPlan& plan) {
  MNEME_CHECK(step_tokens_ == 0, "begin: the step before has neither been committed nor aborted");
  MNEME_CHECK(plan.possible(), plan.refusal);
  MNEME_CHECK(plan.tokens > 0 && plan.first_position == length_, "begin: the plan is for position ",
              plan.first_position, ", the memory is at ", length_);
  try {
    for (PagedRows& rows : rows_) rows.reserve(length_, plan.tokens);
  } catch (...) {
    for (PagedRows& rows : rows_) rows.truncate_positions(length_);
    throw;
  }
  step_tokens_ = plan.tokens;
  next_layer_ = 0;
  peak_bytes_ = std::max(peak_bytes_, resident_bytes());
}

void PagedMemory::attend(const LayerStep& step, ThreadPool& pool) {
  MNEME_CHECK(step_tokens_ > 0, "attend: no step has begun");
  MNEME_CHECK(step.layer == next_layer_ && step.layer < shape_.layers(), "attend: expected layer ",
              next_layer_, ", got ", step.layer);
  MNEME_CHECK(step.q != nullptr && step.k != nullptr && step.v != nullptr && step.out != nullptr,
              "attend: null rows");
  const float* q = step.q;
  const float* k = step.k;
  if (rotate_keys_) {
    q = rotated(q, step_tokens_ * shape_.q_heads, shape_.k_dim, scratch.q);
    k = rotated(k, step_tokens_ * shape_.kv_heads, shape_.k_dim, scratch.k);
  }
  PagedRows* const heads = rows_.data() + step.layer * shape_.kv_heads;
  const auto write_head = [&](int64_t head, int) {
    for (int64_t t = 0; t < step_tokens_; ++t) {
      const int64_t row = t * shape_.kv_heads + head;
      heads[head].append(static_cast<int32_t>(length_ + t), k + row * shape_.k_dim,
                         step.v + row * shape_.v_dim);
    }
  };
  if (step_tokens_ < kParallelWriteTokens) {
    for (int64_t head = 0; head < shape_.kv_heads; ++head) write_head(head, 0);
  } else {
    pool.run(shape_.kv_heads, write_head);
  }
  for (int64_t head = 0; head < shape_.kv_heads; ++head)
    views_[static_cast<size_t>(head)] = heads[head].views();
  const Visibility seen = visibility(step.layer);
  const PagedAttention attention{.format = format_,
                                 .q_heads = shape_.q_heads,
                                 .kv_heads = shape_.kv_heads,
                                 .scale = step.scale,
                                 .softcap = step.softcap,
                                 .window = seen.window,
                                 .sink = seen.sink};
  paged_attention(attention, step_tokens_, length_, q, views_, step.out, scratch.attention, pool);
  ++next_layer_;
}

void PagedMemory::commit() {
  MNEME_CHECK(step_tokens_ > 0 && next_layer_ == shape_.layers(), "commit: only ", next_layer_,
              " of ", shape_.layers(), " layers have taken part in the step");
  length_ += step_tokens_;
  step_tokens_ = 0;
  for (int64_t layer = 0; layer < shape_.layers(); ++layer) drop_unseen(layer);
}

void PagedMemory::drop_unseen(int64_t layer) {
  const Visibility seen = visibility(layer);
  if (seen.window == 0) return;
  for (int64_t head = 0; head < shape_.kv_heads; ++head) {
    rows_[static_cast<size_t>(layer * shape_.kv_heads + head)].drop_pages_inside(
        seen.sink, length_ - seen.window + 1);
  }
}

void PagedMemory::abort() {
  for (PagedRows& rows : rows_) rows.truncate_positions(length_);
  step_tokens_ = 0;
}

std::string PagedMemory::cannot_trim_to(int64_t length) const {
  if (length < 0 || length > length_)
    return concat("length must be 0 to ", length_, ", got ", length);
  for (int64_t layer = 0; layer < shape_.layers(); ++layer) {
    const Visibility seen = visibility(layer);
    const int64_t window_begin =
        seen.window == 0 ? 0 : std::max<int64_t>(0, length - seen.window + 1);
    for (int64_t head = 0; head < shape_.kv_heads; ++head) {
      int64_t missing = first_missing(rows(layer, head), 0, std::min(seen.sink, length));
      if (missing < 0) missing = first_missing(rows(layer, head), window_begin, length);
      if (missing >= 0) {
        return concat("layer ", layer, " does not hold position ", missing, ", which a query at ",
                      length, " would see (window ", seen.window, ")");
      }
    }
  }
  return "";
}

void PagedMemory::trim(int64_t length) {
  MNEME_CHECK(step_tokens_ == 0, "trim: a step is under way");
  const std::string reason = cannot_trim_to(length);
  MNEME_CHECK(reason.empty(), "trim: ", reason);
  for (PagedRows& rows : rows_) rows.truncate_positions(length);
  length_ = length;
}

std::unique_ptr<SequenceMemory> PagedMemory::fork() const {
  MNEME_CHECK(step_tokens_ == 0, "fork: a step is under way");
  auto copy = std::make_unique<PagedMemory>(spec_, shape_, format_, policy_, rotate_keys_);
  copy->rows_ = rows_;
  copy->length_ = length_;
  copy->budget_bytes_ = budget_bytes_;
  copy->peak_bytes_ = copy->resident_bytes();
  return copy;
}

int64_t PagedMemory::resident_bytes() const {
  int64_t bytes = 0;
  for (const PagedRows& rows : rows_) bytes += rows.resident_bytes();
  return bytes;
}

}  // namespace mneme
