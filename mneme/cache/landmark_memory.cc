#include "mneme/cache/landmark_memory.h"

#include <algorithm>

#include "mneme/cache/memory_steps.h"
#include "mneme/core/checked.h"
#include "mneme/core/error.h"

namespace mneme {
namespace {

using Landmark = LandmarkOptions::Landmark;

// The options as they count for this shape, every one checked.
LandmarkOptions checked(LandmarkOptions options, const MemoryShape& shape) {
  const auto at_least = [](int64_t value, int64_t least, const char* what) {
    MNEME_CHECK(value >= least, "landmark memory: ", what, " must be at least ", least, ", got ",
                value);
  };
  // A landmark token closes at least one ordinary one.
  at_least(options.block, options.landmark == Landmark::kToken ? 2 : 1, "positions of a block");
  at_least(options.top, 1, "blocks to fetch");
  at_least(options.window, 0, "the window");
  at_least(options.chunk, 0, "the chunk");
  at_least(options.blocks, 0, "blocks to keep");
  MNEME_CHECK(options.block <= 1 << 16 && options.top <= 1 << 20,
              "landmark memory: expected at most ", 1 << 16, " positions a block and ", 1 << 20,
              " blocks to fetch, got ", options.block, " and ", options.top);
  MNEME_CHECK(options.blocks == 0 || options.blocks >= options.top, "landmark memory: keeps ",
              options.blocks, " blocks, fewer than the ", options.top, " to fetch");
  MNEME_CHECK(
      options.window == 0 || options.selection != LandmarkSelection::kMaxOverTokens,
      "landmark memory: blocks are fetched for all queries of a chunk, and with a window of ",
      options.window, " there are no chunks");
  check_shape("landmark memory", shape);
  MNEME_CHECK(shape.rotary.empty() || std::ssize(shape.rotary) >= shape.layers(),
              "landmark memory: rotary positions are given for ", shape.rotary.size(), " of ",
              shape.layers(), " layers");
  for (const int64_t window : shape.windows) {
    MNEME_CHECK(window == 0 || options.landmark == Landmark::kMean,
                "landmark memory: landmark tokens in a layer with a window of its own (", window,
                ") have no meaning");
  }
  if (options.window == 0 && options.chunk == 0) {
    options.chunk =
        shape.context - shape.context % options.block - (options.top + 1) * options.block;
    MNEME_CHECK(options.chunk > 0, "landmark memory: ", options.top, " blocks of ", options.block,
                " to fetch are too many: the context of ", shape.context,
                " leaves no room for a chunk");
  }
  MNEME_CHECK(options.window > 0 || options.chunk >= options.block,
              "landmark memory: a chunk must hold a block of ", options.block, ", got ",
              options.chunk);
  return options;
}

int64_t reach_of(const LandmarkOptions& options, const MemoryShape& shape) {
  // A query and the block it reads from on: less than a window and a block apart, or a chunk.
  const int64_t near = options.window > 0 ? options.window + options.block - 2 : options.chunk - 1;
  int64_t reach = near + (options.top + 1) * options.block;
  for (const int64_t window : shape.windows) reach = std::max(reach, window + options.block - 2);
  // While nothing lies further back than there are positions, no distance exceeds the position.
  return std::min(reach, shape.context);
}

}  // namespace

LandmarkMemory::LandmarkMemory(std::string spec, MemoryShape shape, LandmarkOptions options)
    : spec_(std::move(spec)),
      shape_(std::move(shape)),
      options_(checked(std::move(options), shape_)),
      layout_{.dtype = options_.dtype,
              .rows = options_.block,
              .k_dim = shape_.k_dim,
              .v_dim = shape_.v_dim},
      reach_(reach_of(options_, shape_)),
      turns_(shape_.rotary, shape_.k_dim, reach_) {
  layout_.validate();
  const int64_t block_bytes = checked_mul(shape_.kv_heads, layout_.bytes(), "landmark memory");
  memory_ = BlockStore::in_memory(block_bytes);
  store_ = !options_.in_file ? memory_ : BlockStore::in_file(options_.folder, block_bytes);
  for (int64_t layer = 0; layer < shape_.layers(); ++layer)
    layers_.emplace_back(layout_, shape_.kv_heads, fetches(layer), memory_, store_);
}

Capabilities LandmarkMemory::capabilities() const {
  return {.trim = options_.selection != LandmarkSelection::kMaxOverTokens,
          .fork = true,
          .persist = true,
          .beyond_context = reach_ < shape_.context,
          .decodes_apart = options_.window == 0,
          .unrotated = true};
}

int64_t LandmarkMemory::window_of(int64_t layer) const {
  return fetches(layer) ? options_.window : shape_.windows[static_cast<size_t>(layer)];
}

int64_t LandmarkMemory::local_block(int64_t layer, int64_t position, int64_t chunk) const {
  const int64_t window = window_of(layer);
  return window > 0 ? std::max<int64_t>(0, position - window + 1) / options_.block
                    : chunk / options_.block;
}

int64_t LandmarkMemory::first_block(int64_t layer, int64_t length) const {
  const int64_t local = local_block(layer, length, length);
  if (!fetches(layer)) return local;
  return options_.blocks == 0 ? 0 : std::max<int64_t>(0, local - options_.blocks);
}

int64_t LandmarkMemory::forgotten() const {
  int64_t most = 0;
  for (int64_t layer = 0; layer < shape_.layers(); ++layer)
    if (fetches(layer)) most = std::max(most, first_block(layer, length_) * options_.block);
  return most;
}

StepPlan LandmarkMemory::plan(int64_t tokens, int64_t following) const {
  StepPlan plan = start_plan(tokens, following, length_);
  if (!plan.possible()) return plan;
  const int64_t end = length_ + tokens;
  plan.settled_bytes = predict_bytes(end);
  plan.resident_bytes = turns_.bytes();
  for (const BlockRows& layer : layers_) plan.resident_bytes += layer.bytes_reserved(end);
  if (end > shape_.context && !capabilities().beyond_context) {
    plan.refusal =
        concat("the text is ", end - shape_.context, " tokens longer than the model's context of ",
               shape_.context, ", and ", spec_, " reads rows at distances of up to ", reach_);
    plan.out_of_reach = true;
  } else {
    refuse_over_budget(spec_, budget_bytes_, plan);
  }
  return plan;
}

void LandmarkMemory::begin(const StepPlan& plan) {
  check_begin(step_, plan, length_);
  try {
    for (BlockRows& layer : layers_) layer.reserve(length_, length_ + plan.tokens);
  } catch (...) {
    for (BlockRows& layer : layers_) layer.abort(length_);
    throw;
  }
  step_ = plan;
  next_layer_ = 0;
  peak_bytes_ = std::max(peak_bytes_, resident_bytes());
}

void LandmarkMemory::attend(const LayerStep& step, ThreadPool& pool) {
  check_attend(step_, step, next_layer_, shape_.layers());
  write_rows(step, pool);
  const int64_t end = length_ + step_.tokens;
  for (int64_t position = length_; position < end;) {
    const Run run = run_from(step.layer, position, end);
    answer(step, run, pool);
    position += run.queries;
  }
  ++next_layer_;
}

void LandmarkMemory::commit() {
  check_commit(step_, next_layer_, shape_.layers());
  length_ += step_.tokens;
  step_ = {};
  for (int64_t layer = 0; layer < shape_.layers(); ++layer)
    layers_[static_cast<size_t>(layer)].commit(length_, first_block(layer, length_));
  store_->release_pages();
}

void LandmarkMemory::abort() {
  for (BlockRows& layer : layers_) layer.abort(length_);
  step_ = {};
}

std::string LandmarkMemory::cannot_trim_to(int64_t length) const {
  if (length < 0 || length > length_)
    return concat("length must be 0 to ", length_, ", got ", length);
  if (length == length_ || length == 0) return "";
  if (options_.selection == LandmarkSelection::kMaxOverTokens)
    return concat("the queries before ", length, " read blocks chosen together with those after");
  for (int64_t layer = 0; layer < shape_.layers(); ++layer) {
    const int64_t held = layers_[static_cast<size_t>(layer)].first_block();
    const int64_t needed = first_block(layer, length);
    if (held > needed) {
      return concat("layer ", layer, " no longer holds block ", needed, ", which a query at ",
                    length, " might read; its first is ", held);
    }
  }
  return "";
}

void LandmarkMemory::trim(int64_t length) {
  MNEME_CHECK(step_.tokens == 0, "trim: a step is under way");
  const std::string reason = cannot_trim_to(length);
  MNEME_CHECK(reason.empty(), "trim: ", reason);
  for (BlockRows& layer : layers_) {
    if (length == 0) {
      layer.clear();
    } else {
      layer.trim(length);
    }
  }
  length_ = length;
}

std::unique_ptr<SequenceMemory> LandmarkMemory::fork() const {
  MNEME_CHECK(step_.tokens == 0, "fork: a step is under way");
  std::unique_ptr<LandmarkMemory> copy(new LandmarkMemory(*this));
  copy->peak_bytes_ = copy->resident_bytes();
  return copy;
}

int64_t LandmarkMemory::resident_bytes() const {
  int64_t bytes = turns_.bytes();
  for (const BlockRows& layer : layers_) bytes += layer.resident_bytes();
  return bytes;
}

int64_t LandmarkMemory::predict_bytes(int64_t length) const {
  MNEME_CHECK(length >= 0, "predict_bytes: length must not be negative, got ", length);
  int64_t bytes = turns_.bytes();
  for (int64_t layer = 0; layer < shape_.layers(); ++layer) {
    const BlockRows& rows = layers_[static_cast<size_t>(layer)];
    bytes += rows.bytes_at(length, first_block(layer, length));
  }
  return bytes;
}

}  // namespace mneme
