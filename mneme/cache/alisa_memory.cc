#include "mneme/cache/alisa_memory.h"

#include <algorithm>
#include <numeric>

#include "mneme/cache/memory_steps.h"
#include "mneme/cache/paged_memory.h"
#include "mneme/cache/policy/keep_listed.h"
#include "mneme/core/checked.h"
#include "mneme/core/error.h"

namespace mneme {
namespace {

AlisaOptions checked(AlisaOptions options, const MemoryShape& shape) {
  check_shape("alisa", shape);
  MNEME_CHECK(options.ratio > 0 && options.ratio <= 1,
              "alisa: the ratio must be above 0 and at most 1, got ", options.ratio);
  MNEME_CHECK(options.capacity == 0 || options.capacity >= 3 * options.block,
              "alisa: a fast tier of ", options.capacity,
              " tokens holds fewer than three blocks of ", options.block);
  MNEME_CHECK(options.capacity % std::max<int64_t>(1, options.block) == 0,
              "alisa: the fast tier must hold whole blocks of ", options.block, " tokens, got ",
              options.capacity);
  if (options.p1_at_overflow) options.schedule.p1 = 0;
  options.schedule.validate();
  return options;
}

}  // namespace

AlisaMemory::AlisaMemory(std::string spec, MemoryShape shape, AlisaOptions options)
    : spec_(std::move(spec)),
      shape_(std::move(shape)),
      options_(checked(std::move(options), shape_)),
      layout_{.rows = {.dtype = options_.dtype,
                       .q_heads = shape_.q_heads,
                       .kv_heads = shape_.kv_heads,
                       .k_dim = shape_.k_dim,
                       .v_dim = shape_.v_dim},
              .block = options_.block,
              .slow_bits = options_.slow_bits} {
  layout_.validate();
  fast_store_ = BlockStore::in_memory(layout_.fast_bytes());
  slow_store_ = !options_.in_file ? BlockStore::in_memory(layout_.slow_bytes())
                                  : BlockStore::in_file(options_.folder, layout_.slow_bytes());
  for (int64_t layer = 0; layer < shape_.layers(); ++layer) layers_.push_back(new_layer());
}

AlisaMemory::Layer AlisaMemory::new_layer() const {
  return {.tokens = TieredTokens(layout_, fast_store_, slow_store_),
          .history = AttentionHistory(options_.ratio),
          .chosen = {},
          .read = {},
          .text = {},
          .weights = {},
          .replayed = {},
          .replayed_bytes = {}};
}

// One block is being written and moves only when it is whole.
TierRules AlisaMemory::rules() const {
  return {.ratio = options_.ratio,
          .capacity = options_.capacity == 0 ? std::numeric_limits<int32_t>::max()
                                             : options_.capacity - options_.block,
          .block = options_.block,
          .deletable = first_text_};
}

TierSchedule AlisaMemory::schedule_after(int64_t prompt) const {
  TierSchedule schedule = options_.schedule;
  if (options_.p1_at_overflow)
    schedule.p1 = std::min(schedule.p2, std::max<int64_t>(0, rules().capacity - prompt));
  return schedule;
}

TierPlacement AlisaMemory::placement() const {
  for (int64_t layer = 0; layer < shape_.layers(); ++layer)
    if (shape_.sees_all(layer)) return at(layer).tokens.placement();
  return {};
}

TierPlacement AlisaMemory::next_placement(const StepPlan& step) const {
  if (step.following > 0) return placement();
  const int64_t n = step.first_position + step.tokens, prompt = decodes(step) ? prompt_ : n;
  TierRules rules = this->rules();
  if (step.first_position == 0 && !decodes(step)) rules.deletable = n;
  // A text ends as if a step had, the one before the first.
  return place_tokens(schedule_after(prompt), rules, std::max<int64_t>(0, n - prompt - 1), n,
                      placement());
}

std::vector<int32_t> AlisaMemory::missing(const Layer& layer, bool decodes) const {
  const int64_t deleted = layer.tokens.placement().deleted;
  std::vector<int32_t> found;
  if (decodes && !layer.chosen.empty()) {
    found.assign(layer.chosen.begin(), std::ranges::lower_bound(layer.chosen, deleted));
  } else {
    found.resize(static_cast<size_t>(deleted));
    std::iota(found.begin(), found.end(), 0);
  }
  return found;
}

int64_t AlisaMemory::wanted(int64_t tokens, int64_t following) const {
  int64_t prefix = 0;
  for (int64_t layer = 0; layer < shape_.layers(); ++layer) {
    if (!shape_.sees_all(layer)) continue;
    const std::vector<int32_t> found = missing(at(layer), decodes(tokens, following));
    if (!found.empty() && at(layer).replayed != found)
      prefix = std::max<int64_t>(prefix, found.back() + 1);
  }
  return prefix;
}

std::unique_ptr<SequenceMemory> AlisaMemory::make_pass(int64_t tokens, int64_t following) const {
  std::vector<std::vector<int32_t>> lists;
  for (int64_t layer = 0; layer < shape_.layers(); ++layer)
    lists.push_back(shape_.sees_all(layer) ? missing(at(layer), decodes(tokens, following))
                                           : std::vector<int32_t>());
  return std::make_unique<PagedMemory>("replay of " + spec_, page_format(),
                                       std::make_unique<KeepListed>(shape_, std::move(lists)),
                                       false, nullptr);
}

void AlisaMemory::take(const SequenceMemory& pass) {
  const auto* const paged = dynamic_cast<const PagedMemory*>(&pass);
  MNEME_CHECK(paged != nullptr && step_.tokens == 0,
              "alisa: rows of a prefix are taken from its own pass, between steps");
  std::vector<float> k(static_cast<size_t>(shape_.kv_heads * shape_.k_dim)),
      v(static_cast<size_t>(shape_.kv_heads * shape_.v_dim));
  const int64_t bytes = rows().token_bytes();
  for (int64_t i = 0; i < shape_.layers(); ++i) {
    Layer& layer = at(i);
    layer.replayed.clear();
    const int64_t count = shape_.sees_all(i) ? paged->rows(i, 0).rows() : 0;
    layer.replayed_bytes.resize(
        static_cast<size_t>(count > 0 ? count * bytes + RowListAttention::kOverhang : 0));
    for (int64_t row = 0; row < count; ++row) {
      for (int64_t head = 0; head < shape_.kv_heads; ++head) {
        paged->rows(i, head).read(row, k.data() + head * shape_.k_dim,
                                  v.data() + head * shape_.v_dim);
      }
      layer.replayed.push_back(paged->rows(i, 0).position(row));
      rows().write_token(k.data(), v.data(), layer.replayed_bytes.data() + row * bytes);
    }
  }
  peak_bytes_ = std::max(peak_bytes_, resident_bytes() + pass.peak_bytes());
}

void AlisaMemory::drop_replayed() {
  for (Layer& layer : layers_) {
    layer.replayed.clear();
    std::vector<std::byte>().swap(layer.replayed_bytes);
  }
}

std::string AlisaMemory::refusal(const StepPlan& step) const {
  const int64_t n = step.first_position + step.tokens, k = half_window(n, options_.ratio);
  if (n > shape_.context)
    return concat("the text is ", n - shape_.context, " tokens longer than the model's context of ",
                  shape_.context);
  if (options_.capacity > 0) {
    const int64_t needed = std::max(2 * k, k + options_.block) + options_.block;
    if (n > options_.capacity && options_.capacity < needed)
      return concat("a fast tier of ", options_.capacity, " tokens is too small: a query at ", n,
                    " reads ", 2 * k, ", which takes at least ",
                    ceil_div(needed, options_.block) * options_.block, " (or a smaller ratio)");
    const TierPlacement next = next_placement(step);
    if (step.following == 0 && n - next.slow_end > options_.capacity)
      return concat("until step p1 = ", options_.schedule.p1, " all ", n,
                    " tokens stay in the fast tier, which holds ", options_.capacity);
  }
  if (const int64_t prefix = wanted(step.tokens, step.following); prefix > 0)
    return concat("rows of the first ", prefix,
                  " tokens were deleted: the session must run these again before the step");
  return "";
}

StepPlan AlisaMemory::plan(int64_t tokens, int64_t following) const {
  StepPlan plan = start_plan(tokens, following, length_);
  if (!plan.possible()) return plan;
  const int64_t end = length_ + tokens, blocks = ceil_div(tokens, options_.block);
  if (fresh(plan)) {
    plan.settled_bytes = predict_bytes(end);
    // One layer whole: as it is written, and in pages to be attended to.
    plan.resident_bytes = plan.settled_bytes + layers_.front().tokens.bytes_of(blocks, 0) +
                          shape_.kv_heads * PagedRows::bytes_for_rows(page_format(), tokens);
  } else {
    const int64_t queries = std::min(tokens, half_window(end, options_.ratio) + 1);
    for (int64_t layer = 0; layer < shape_.layers(); ++layer) {
      plan.settled_bytes += at(layer).tokens.bytes_of(blocks + 1, 0);
      if (shape_.sees_all(layer))
        plan.settled_bytes += AttentionHistory::bytes_of_dense(end, queries);
    }
    plan.settled_bytes += resident_bytes();
    plan.resident_bytes = plan.settled_bytes;
  }
  plan.refusal = refusal(plan);
  if (end > shape_.context) {
    plan.out_of_reach = true;
  } else if (plan.possible()) {
    refuse_over_budget(spec_, budget_bytes_, plan);
  }
  return plan;
}

void AlisaMemory::begin(const StepPlan& plan) {
  check_begin(step_, plan, length_);
  try {
    if (!fresh(plan))
      for (Layer& layer : layers_) layer.tokens.reserve(length_, length_ + plan.tokens);
  } catch (...) {
    for (Layer& layer : layers_) layer.tokens.truncate(length_);
    throw;
  }
  step_ = plan;
  next_layer_ = 0;
  traffic_ = {};
  peak_bytes_ = std::max(peak_bytes_, resident_bytes());
}

void AlisaMemory::commit() {
  check_commit(step_, next_layer_, shape_.layers());
  const int64_t n = length_ + step_.tokens;
  const TierPlacement next = next_placement(step_), before = placement();
  std::vector<TieredTokens::Blocks> copies(layers_.size());
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (shape_.sees_all(static_cast<int64_t>(i)) && !fresh(step_))
      copies[i] = layers_[i].tokens.copies_for(next);
  }
  // From here on nothing fails.
  for (int64_t i = 0; i < shape_.layers(); ++i) {
    Layer& layer = at(i);
    if (!shape_.sees_all(i)) {
      layer.tokens.drop_before(n - window_of(i) + 1);
      continue;
    }
    if (decodes(step_)) {
      layer.history.push_sparse(layer.read, layer.weights);
      traffic_.stores += next.slow_end - before.slow_end;
    } else {
      layer.history = std::move(*layer.text);
      layer.text.reset();
    }
    if (!fresh(step_)) layer.tokens.move(next, std::move(copies[static_cast<size_t>(i)]));
    layer.chosen.clear();
    if (step_.following == 0) layer.history.choose(n + 1, layer.chosen);
  }
  if (!decodes(step_)) {
    if (step_.following == 0) prompt_ = n;
    if (length_ == 0 || (in_text_ && first_text_ == length_)) first_text_ = n;
  }
  traffic_.phase = schedule_after(prompt_).phase(std::max<int64_t>(0, n - prompt_ - 1));
  traffic_.deleted = next.deleted;
  traffic_.slow = next.slow_end - next.deleted;
  traffic_.fast = n - next.slow_end;
  in_text_ = step_.following > 0;
  length_ = n;
  step_ = {};
  drop_replayed();
  slow_store_->release_pages();
  peak_bytes_ = std::max(peak_bytes_, resident_bytes());
}

void AlisaMemory::abort() {
  for (Layer& layer : layers_) {
    layer.text.reset();
    // Layers of a fresh text may have moved; there is nothing else in them.
    if (length_ == 0) {
      layer = new_layer();
    } else {
      layer.tokens.truncate(length_);
    }
  }
  drop_replayed();
  step_ = {};
}

std::string AlisaMemory::cannot_trim_to(int64_t length) const {
  if (length < 0 || length > length_)
    return concat("length must be 0 to ", length_, ", got ", length);
  if (length == length_ || length == 0) return "";
  return concat("the queries from ", length, " on are part of what chooses the next ones' tokens");
}

void AlisaMemory::trim(int64_t length) {
  MNEME_CHECK(step_.tokens == 0, "trim: a step is under way");
  const std::string reason = cannot_trim_to(length);
  MNEME_CHECK(reason.empty(), "trim: ", reason);
  if (length == length_) return;
  for (Layer& layer : layers_) layer = new_layer();
  length_ = first_text_ = prompt_ = 0;
  in_text_ = false;
  traffic_ = {};
}

std::unique_ptr<SequenceMemory> AlisaMemory::fork() const {
  MNEME_CHECK(step_.tokens == 0, "fork: a step is under way");
  std::unique_ptr<AlisaMemory> copy(new AlisaMemory(*this));
  copy->peak_bytes_ = copy->resident_bytes();
  return copy;
}

int64_t AlisaMemory::resident_bytes() const {
  int64_t bytes = 0;
  for (const Layer& layer : layers_) {
    bytes += layer.tokens.resident_bytes() + layer.history.bytes() +
             4 * (std::ssize(layer.chosen) + std::ssize(layer.read) + std::ssize(layer.weights) +
                  std::ssize(layer.replayed)) +
             std::ssize(layer.replayed_bytes);
    if (layer.text) bytes += layer.text->bytes();
  }
  return bytes;
}

int64_t AlisaMemory::layer_bytes(int64_t layer, int64_t length) const {
  const int64_t block = options_.block;
  const TieredTokens& tokens = at(layer).tokens;
  if (!shape_.sees_all(layer)) {
    const int64_t first = std::max<int64_t>(0, length - window_of(layer) + 1) / block;
    return tokens.bytes_of(ceil_div(length, block) - first, 0);
  }
  TierRules rules = this->rules();
  rules.deletable = length;
  const TierPlacement placed = place_tokens(schedule_after(length), rules, 0, length, {});
  const int64_t k = half_window(length + 1, options_.ratio);
  const int64_t queries = std::min(length, half_window(length, options_.ratio) + 1);
  return tokens.bytes_of(ceil_div(length - placed.slow_end, block),
                         (placed.slow_end - placed.deleted) / block) +
         AttentionHistory::bytes_of_dense(length, queries) + 4 * length +
         (2 * k < length + 1 ? 4 * k : 0);
}

int64_t AlisaMemory::predict_bytes(int64_t length) const {
  MNEME_CHECK(length >= 0, "predict_bytes: length must not be negative, got ", length);
  int64_t bytes = 0;
  for (int64_t layer = 0; layer < shape_.layers() && length > 0; ++layer)
    bytes += layer_bytes(layer, length);
  return bytes;
}

}  // namespace mneme
