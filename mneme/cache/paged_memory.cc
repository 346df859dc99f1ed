#include "mneme/cache/paged_memory.h"

#include <algorithm>

#include "mneme/cache/memory_steps.h"
#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/core/grown.h"
#include "mneme/kernels/hadamard.h"

namespace mneme {
namespace {

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
  std::vector<float> q, k;                       // rotated
  std::vector<RowWindow> windows;                // [kv_heads]
  std::vector<std::span<const PageView>> views;  // [kv_heads]
  std::vector<float> weights;                    // [queries, q_heads, stride]
  int64_t stride = 0;
  std::vector<std::vector<double>> sums;  // [kv_heads][slots]
  std::vector<std::span<double>> sum_spans;
  std::vector<std::span<const double>> row_sums;  // [kv_heads][rows]
  std::vector<float> joined, unread;              // queries of a window, their answers
};
thread_local Scratch scratch;

const float* rotated(const float* rows, int64_t count, int64_t dim, std::vector<float>& out) {
  hadamard(rows, count, dim, grown(out, count * dim));
  return out.data();
}

}  // namespace

// A policy's hand on the rows.
class PagedMemory::Keeper final : public PolicyRows {
 public:
  explicit Keeper(PagedMemory& memory) : memory_(memory) {}
  const PagedRows& of(int64_t layer, int64_t head) const override {
    return memory_.rows(layer, head);
  }
  bool at_once() const override { return memory_.fresh(memory_.step_.following); }
  void keep(int64_t layer, int64_t head, std::span<const int64_t> indices) override {
    if (at_once()) {
      memory_.rows_[memory_.index(layer, head)].keep_rows(indices);
      return;
    }
    Pending& pending = fresh_pending(layer, head);
    pending.cut = true;
    pending.kept.assign(indices.begin(), indices.end());
  }
  void drop(int64_t layer, int64_t head, int64_t row) override {
    if (at_once()) {
      memory_.rows_[memory_.index(layer, head)].drop_row(row);
      return;
    }
    fresh_pending(layer, head).dropped = row;
  }

 private:
  Pending& fresh_pending(int64_t layer, int64_t head) {
    Pending& pending = memory_.pending_[memory_.index(layer, head)];
    MNEME_ASSERT(!pending.cut && pending.dropped < 0);
    return pending;
  }

  PagedMemory& memory_;
};

PagedMemory::PagedMemory(std::string spec, RowFormat format, std::unique_ptr<CachePolicy> policy,
                         bool rotate_keys, std::shared_ptr<const PromptFilter> filter,
                         bool rerotate)
    : spec_(std::move(spec)),
      format_(format),
      policy_(std::move(policy)),
      rotate_keys_(rotate_keys),
      filter_(std::move(filter)),
      rerotate_(rerotate) {
  MNEME_ASSERT(policy_ != nullptr);
  MNEME_CHECK(!rerotate || filter_ == nullptr, spec_,
              ": the tokens that a prompt filter chooses have new positions already");
  MNEME_CHECK(!rerotate || !policy_->names_positions(), spec_,
              ": the policy remembers rows by their positions, which rerotate changes");
  check_shape("memory", shape());
  format_.k_dim = shape().k_dim;
  format_.v_dim = shape().v_dim;
  format_.validate();
  const auto heads = static_cast<size_t>(shape().layers() * shape().kv_heads);
  rows_.assign(heads, PagedRows(format_));
  pending_.resize(heads);
}

Capabilities PagedMemory::capabilities() const {
  // The tokens behind filtered rows are not those of the text: a file of rows alone is not enough.
  const bool filtered = filter_ != nullptr;
  // Rows that stay at their number while decoding never run out of positions.
  const bool endless = rerotate_ && policy_->decodes_apart() && policy_->evicts();
  return {.trim = !policy_->evicts() && !filtered && !rerotate_,
          .fork = true,
          .persist = !filtered,
          .exact = policy_->exact() && !filtered,
          .beyond_context = (policy_->bounded() && !filtered) || endless,
          .whole_text = policy_->wants_whole_text() || filtered,
          .decodes_apart = policy_->decodes_apart()};
}

int64_t PagedMemory::settled_bytes(int64_t layer, int64_t head, int64_t length) const {
  if (policy_->evicts()) {
    const int64_t rows = std::min(length, policy_->settled_rows(layer, length));
    return PagedRows::bytes_for_rows(format_, rows, rows < length);
  }
  const RowWindow seen = policy_->window(layer, head);
  int64_t rows = length;
  // Full pages with no row below `sink` and none that the query at `length` sees.
  const int64_t first = ceil_div(seen.sink, kPageRows);
  const int64_t last = seen.first(length) / kPageRows;
  if (last > first) rows -= (last - first) * kPageRows;
  return PagedRows::bytes_for_rows(format_, rows);
}

int64_t PagedMemory::predict_bytes(int64_t length) const {
  MNEME_CHECK(length >= 0, "predict_bytes: length must not be negative, got ", length);
  int64_t bytes = policy_->settled_state_bytes(length);
  for (int64_t layer = 0; layer < shape().layers(); ++layer) {
    for (int64_t head = 0; head < shape().kv_heads; ++head)
      bytes += settled_bytes(layer, head, length);
  }
  return bytes;
}

StepPlan PagedMemory::plan(int64_t tokens, int64_t following) const {
  StepPlan plan = start_plan(tokens, following, length_);
  if (!plan.possible()) return plan;
  plan.first_position = start_of_step(tokens, following);
  const int64_t end = plan.first_position + tokens;
  plan.settled_bytes = predict_bytes(end);
  plan.unrotated_rows = policy_->unrotated_rows(tokens);
  if (layer_by_layer(following)) {
    plan.resident_bytes =
        plan.settled_bytes + shape().kv_heads * PagedRows::bytes_for_rows(format_, tokens);
  } else {
    for (const PagedRows& rows : rows_) plan.resident_bytes += rows.bytes_reserved(tokens);
    plan.resident_bytes += policy_->settled_state_bytes(end);
  }
  if (end > shape().context && !policy_->bounded()) {
    plan.refusal =
        concat("the text is ", end - shape().context, " tokens longer than the model's context of ",
               shape().context, "; 'sliding(window=", std::max<int64_t>(1, shape().context / 2),
               ",sink=0)' would hold it");
    plan.out_of_reach = true;
  } else if (const std::string reason = policy_->refusal(tokens, end, following); !reason.empty()) {
    plan.refusal = reason;
  } else {
    refuse_over_budget(spec_, budget_bytes_, plan);
  }
  return plan;
}

void PagedMemory::begin(const StepPlan& plan) {
  check_begin(step_, plan, start_of_step(plan.tokens, plan.following));
  if (plan.first_position < length_) renumber();  // an abort does not open the gaps again
  try {
    // Where rows leave layer by layer, they also come so: attend() makes room.
    if (!layer_by_layer(plan.following)) {
      for (PagedRows& rows : rows_) rows.reserve(length_, plan.tokens);
    }
    if (plan.following > 0 && policy_->query_window() > 0 && !queries_) {
      queries_.emplace(shape().layers(), policy_->query_window(), shape().q_heads * shape().k_dim);
    }
  } catch (...) {
    for (PagedRows& rows : rows_) rows.truncate_positions(length_);
    throw;
  }
  step_ = plan;
  next_layer_ = 0;
  // What the policy remembers grows as the layers come.
  const int64_t grows =
      policy_->settled_state_bytes(length_ + plan.tokens) - policy_->state_bytes();
  peak_bytes_ = std::max(peak_bytes_, resident_bytes() + std::max<int64_t>(0, grows));
}

void PagedMemory::write_rows(const LayerStep& step, const float* k, ThreadPool& pool) {
  const MemoryShape& s = shape();
  PagedRows* const heads = rows_.data() + index(step.layer, 0);
  const bool makes_room = layer_by_layer(step_.following);
  write_heads(step_, s.kv_heads, pool, [&](int64_t head) {
    if (makes_room) heads[head].reserve(length_, step_.tokens);
    for (int64_t t = 0; t < step_.tokens; ++t) {
      const int64_t row = t * s.kv_heads + head;
      heads[head].append(static_cast<int32_t>(length_ + t), k + row * s.k_dim,
                         step.v + row * s.v_dim);
    }
  });
  if (makes_room) peak_bytes_ = std::max(peak_bytes_, resident_bytes());
}

void PagedMemory::attend(const LayerStep& step, ThreadPool& pool) {
  const MemoryShape& s = shape();
  check_attend(step_, step, next_layer_, s.layers());
  MNEME_CHECK(step_.unrotated_rows == 0 ||
                  (step.first_unrotated != nullptr && step.last_unrotated != nullptr),
              "attend: ", spec_, " needs the step's first and last ", step_.unrotated_rows,
              " queries without rotary positions");
  const float* q = step.q;
  const float* k = step.k;
  if (rotate_keys_) {
    q = rotated(q, step_.tokens * s.q_heads, s.k_dim, scratch.q);
    k = rotated(k, step_.tokens * s.kv_heads, s.k_dim, scratch.k);
  }
  write_rows(step, k, pool);
  const PolicyStep policy_step{.layer = step,
                               .q = q,
                               .tokens = step_.tokens,
                               .first_position = length_,
                               .following = step_.following,
                               .continues = in_text_};
  Keeper keeper(*this);
  policy_->enter(policy_step, keeper);
  const SeenWeights seen = attend_rows(policy_step, q, pool);
  if (queries_ && step_.following > 0) queries_->push(step.layer, q, step_.tokens);
  policy_->leave(policy_step, seen, keeper);
  if (layer_by_layer(step_.following)) drop_unseen(step.layer, policy_step.end());
  ++next_layer_;
}

SeenWeights PagedMemory::attend_rows(const PolicyStep& step, const float* q, ThreadPool& pool) {
  const MemoryShape& s = shape();
  const int64_t layer = step.layer.layer;
  grown(scratch.windows, s.kv_heads);
  grown(scratch.views, s.kv_heads);
  const auto reads = policy_->reads();
  int64_t most_slots = 0;
  for (int64_t head = 0; head < s.kv_heads; ++head) {
    const auto at = static_cast<size_t>(head);
    scratch.windows[at] = policy_->window(layer, head);
    scratch.views[at] = reads.empty() ? rows(layer, head).views() : reads[at];
    most_slots = std::max(most_slots, rows(layer, head).slots());
  }
  const PagedAttention attention{
      .format = format_,
      .q_heads = s.q_heads,
      .kv_heads = s.kv_heads,
      .scale = step.layer.scale,
      .softcap = step.layer.softcap,
      .head_windows = {scratch.windows.data(), static_cast<size_t>(s.kv_heads)}};
  const std::span<const std::span<const PageView>> views{scratch.views.data(),
                                                         static_cast<size_t>(s.kv_heads)};
  const Watch watch = policy_->watch(step);
  MNEME_ASSERT(reads.empty() || (watch.queries == 0 && !watch.sums));
  WeightSinks sinks;
  if (watch.sums) sinks.sums = cleared_sums(layer);
  scratch.stride = most_slots;
  grown(scratch.weights, watch.queries * s.q_heads * most_slots);
  const bool in_one = watch.queries >= step.tokens && !queries_;
  if (in_one) {
    sinks.weights = scratch.weights.data();
    sinks.stride = scratch.stride;
  }
  paged_attention(attention, step.tokens, length_, q, views, step.layer.out, scratch.attention,
                  pool, sinks);
  int64_t queries = in_one ? step.tokens : 0;
  if (watch.queries > 0 && !in_one) {
    // The text's newest queries once more, for their weights.
    const int64_t width = s.q_heads * s.k_dim;
    const std::span<const float> all = queries_
                                           ? queries_->newest(layer, q, step.tokens, scratch.joined)
                                           : std::span(q, static_cast<size_t>(step.tokens * width));
    queries = std::min(watch.queries, std::ssize(all) / width);
    grown(scratch.unread, queries * s.q_heads * s.v_dim);
    paged_attention(attention, queries, step.end() - queries,
                    all.last(static_cast<size_t>(queries * width)).data(), views,
                    scratch.unread.data(), scratch.attention, pool,
                    {.weights = scratch.weights.data(), .stride = scratch.stride});
  }
  return without_hidden(layer, queries, watch.sums);
}

// Zeros for a kernel to add weights to: one for every slot of the layer's heads.
std::span<const std::span<double>> PagedMemory::cleared_sums(int64_t layer) const {
  grown(scratch.sums, shape().kv_heads);
  scratch.sum_spans.clear();
  for (int64_t head = 0; head < shape().kv_heads; ++head) {
    std::vector<double>& sums = scratch.sums[static_cast<size_t>(head)];
    sums.assign(static_cast<size_t>(rows(layer, head).slots()), 0.0);
    scratch.sum_spans.emplace_back(sums);
  }
  return scratch.sum_spans;
}

// What the kernel wrote for every slot, for the rows alone.
SeenWeights PagedMemory::without_hidden(int64_t layer, int64_t queries, bool sums) const {
  const MemoryShape& s = shape();
  const int64_t ratio = s.q_heads / s.kv_heads;
  scratch.row_sums.clear();
  for (int64_t head = 0; head < s.kv_heads; ++head) {
    const PagedRows& held = rows(layer, head);
    for (int64_t row = 0; row < queries * ratio; ++row) {
      const int64_t at = row / ratio * s.q_heads + head * ratio + row % ratio;
      held.remove_hidden(scratch.weights.data() + at * scratch.stride);
    }
    if (!sums) continue;
    held.remove_hidden(scratch.sums[static_cast<size_t>(head)].data());
    scratch.row_sums.emplace_back(scratch.sums[static_cast<size_t>(head)].data(),
                                  static_cast<size_t>(held.rows()));
  }
  return {.queries = queries,
          .weights = scratch.weights.data(),
          .stride = scratch.stride,
          .sums = scratch.row_sums};
}

void PagedMemory::commit() {
  check_commit(step_, next_layer_, shape().layers());
  length_ += step_.tokens;
  const bool text_ended = ends_text(step_.tokens, step_.following, in_text_);
  in_text_ = step_.following > 0;
  if (!in_text_) queries_.reset();
  step_ = {};
  for (size_t i = 0; i < pending_.size(); ++i) {
    if (pending_[i].cut) rows_[i].keep_rows(pending_[i].kept);
    if (pending_[i].dropped >= 0) rows_[i].drop_row(pending_[i].dropped);
    pending_[i].clear();
  }
  policy_->committed();
  for (int64_t layer = 0; layer < shape().layers(); ++layer) drop_unseen(layer, length_);
  if (rerotate_) maybe_renumber(text_ended);
}

void PagedMemory::drop_unseen(int64_t layer, int64_t length) {
  for (int64_t head = 0; head < shape().kv_heads; ++head) {
    const RowWindow seen = policy_->window(layer, head);
    if (seen.window > 0) rows_[index(layer, head)].drop_pages_inside(seen.sink, seen.first(length));
  }
}

void PagedMemory::abort() {
  for (PagedRows& rows : rows_) rows.truncate_positions(length_);
  for (Pending& pending : pending_) pending.clear();
  policy_->aborted();
  if (length_ == 0) {
    in_text_ = false;
    queries_.reset();
    policy_->cleared();
  }
  step_ = {};
}

std::string PagedMemory::cannot_trim_to(int64_t length) const {
  if (length < 0 || length > length_)
    return concat("length must be 0 to ", length_, ", got ", length);
  if (length == length_) return "";
  if (rerotate_ && filtered_tokens_ > 0 && length > 0)
    return concat("rows have closed ranks: ", spec_, " no longer knows which tokens they were");
  if (policy_->evicts() && length > 0)
    return concat("rows that a query at ", length, " would see may be gone: ", spec_,
                  " has judged them at ", length_);
  return missing_row(length);
}

std::string PagedMemory::missing_row(int64_t length) const {
  for (int64_t layer = 0; layer < shape().layers(); ++layer) {
    for (int64_t head = 0; head < shape().kv_heads; ++head) {
      const RowWindow seen = policy_->window(layer, head);
      int64_t missing = first_missing(rows(layer, head), 0, std::min(seen.sink, length));
      if (missing < 0) missing = first_missing(rows(layer, head), seen.first(length), length);
      if (missing >= 0) {
        return concat("layer ", layer, " does not hold position ", missing, ", which a query at ",
                      length, " would see (window ", seen.window, ")");
      }
    }
  }
  return "";
}

void PagedMemory::trim(int64_t length) {
  MNEME_CHECK(step_.tokens == 0, "trim: a step is under way");
  const std::string reason = cannot_trim_to(length);
  MNEME_CHECK(reason.empty(), "trim: ", reason);
  for (PagedRows& rows : rows_) rows.truncate_positions(length);
  length_ = length;
  if (length > 0) return;
  filtered_tokens_ = 0;
  in_text_ = false;
  queries_.reset();
  policy_->cleared();
}

std::unique_ptr<SequenceMemory> PagedMemory::fork() const {
  MNEME_CHECK(step_.tokens == 0, "fork: a step is under way");
  auto copy = std::make_unique<PagedMemory>(spec_, format_, policy_->clone(), rotate_keys_, filter_,
                                            rerotate_);
  copy->rows_ = rows_;
  copy->length_ = length_;
  copy->filtered_tokens_ = filtered_tokens_;
  copy->budget_bytes_ = budget_bytes_;
  copy->in_text_ = in_text_;
  copy->queries_ = queries_;
  copy->peak_bytes_ = copy->resident_bytes();
  return copy;
}

int64_t PagedMemory::resident_bytes() const {
  int64_t bytes = policy_->state_bytes() + (queries_ ? queries_->bytes() : 0);
  for (const PagedRows& rows : rows_) bytes += rows.resident_bytes();
  return bytes;
}

}  // namespace mneme
