#include "mneme/interpret/path_patching.h"

#include <algorithm>

#include "mneme/cache/memory_registry.h"
#include "mneme/core/error.h"
#include "mneme/runtime/session.h"

namespace mneme {
namespace {

// Patches a step: enough for full tiles of the products, few enough for its logits to stay small.
constexpr int64_t kPatchesPerStep = 64;

std::unique_ptr<SequenceMemory> float_memory(const DecoderModel& model) {
  return MemoryRegistry::builtin().build("full(dtype=f32)", model.memory_shape());
}

// Keeps the head outputs of the last token of the newest step.
class Recorder final : public HeadHooks {
 public:
  explicit Recorder(std::vector<float>& heads) : heads_(heads) {}
  void outputs(const HeadStep& step) override {
    const int64_t width = step.heads * step.dim;
    std::copy_n(step.rows + (step.tokens - 1) * width, width, heads_.begin() + step.layer * width);
  }

 private:
  std::vector<float>& heads_;
};

// Gives one head of each sequence another output.
class Exchange final : public HeadHooks {
 public:
  Exchange(std::span<const float> heads, std::span<const HeadId> senders)
      : heads_(heads), senders_(senders) {}
  void outputs(const HeadStep& step) override {
    const HeadId& sender = senders_[static_cast<size_t>(step.sequence)];
    if (sender.layer != step.layer) return;
    const int64_t first = (step.layer * step.heads + sender.head) * step.dim;
    std::ranges::copy(heads_.subspan(static_cast<size_t>(first), static_cast<size_t>(step.dim)),
                      step.head(step.tokens - 1, sender.head).begin());
  }

 private:
  std::span<const float> heads_;
  std::span<const HeadId> senders_;
};

std::vector<HeadId> every_head(const ModelConfig& config) {
  std::vector<HeadId> heads;
  for (int64_t layer = 0; layer < config.layers; ++layer)
    for (int64_t head = 0; head < config.q_heads; ++head) heads.push_back({layer, head});
  return heads;
}

// Calls run(part) with at most kPatchesPerStep heads at a time, and visit with the logits it returns.
template <typename Run>
void in_parts(const ModelConfig& config, const PatchVisit& visit, Run run) {
  const std::vector<HeadId> heads = every_head(config);
  const std::span<const HeadId> all = heads;
  const auto vocabulary = static_cast<size_t>(config.vocabulary);
  for (size_t first = 0; first < all.size(); first += kPatchesPerStep) {
    const auto part = all.subspan(first, std::min<size_t>(kPatchesPerStep, all.size() - first));
    const std::span<const float> logits = run(part);
    for (size_t i = 0; i < part.size(); ++i)
      visit(part[i], logits.subspan(i * vocabulary, vocabulary));
  }
}

}  // namespace

LastPosition record_last_position(DecoderModel& model, ThreadPool& pool,
                                  std::span<const int32_t> tokens) {
  MNEME_CHECK(!tokens.empty(), "path patching: a prompt without tokens");
  const ModelConfig& config = model.config();
  LastPosition last;
  last.heads.resize(static_cast<size_t>(config.layers * config.q_heads * config.head_dim));
  Session session(model, pool, float_memory(model));
  Recorder recorder(last.heads);
  const ScopedHeadHooks hooks(model, &recorder);
  session.append(tokens);
  last.logits.assign(session.logits().begin(), session.logits().end());
  return last;
}

FrozenHeads::FrozenHeads(MemoryShape shape, int64_t position, std::span<const float> clean,
                         std::span<const float> corrupt, std::span<const HeadId> senders)
    : shape_(std::move(shape)),
      position_(position),
      clean_(clean),
      corrupt_(corrupt),
      senders_(senders) {
  const auto size = static_cast<size_t>(shape_.layers() * shape_.q_heads * shape_.v_dim);
  MNEME_CHECK(position >= 0, "frozen heads: a position is at least 0, got ", position);
  MNEME_CHECK(clean.size() == size && corrupt.size() == size, "frozen heads: recordings of ",
              clean.size(), " and ", corrupt.size(), " numbers, expected ", size);
  for (const HeadId& sender : senders) {
    MNEME_CHECK(sender.layer == -1 || (sender.layer >= 0 && sender.layer < shape_.layers() &&
                                       sender.head >= 0 && sender.head < shape_.q_heads),
                "frozen heads: the model has no head ", head_text(sender));
  }
}

StepPlan FrozenHeads::plan(int64_t tokens, int64_t following) const {
  StepPlan plan{.tokens = tokens, .first_position = position_, .following = following};
  if (tokens < 1 || tokens > std::ssize(senders_))
    plan.refusal =
        concat("frozen heads: a step has 1 to ", senders_.size(), " tokens, got ", tokens);
  return plan;
}

void FrozenHeads::begin(const StepPlan& plan) {
  MNEME_CHECK(plan.possible(), plan.refusal);
  tokens_ = plan.tokens;
}

void FrozenHeads::attend(const LayerStep& step, ThreadPool&) {
  MNEME_CHECK(tokens_ > 0, "frozen heads: no step has begun");
  const int64_t width = shape_.q_heads * shape_.v_dim;
  for (int64_t t = 0; t < tokens_; ++t) {
    float* const row = step.out + t * width;
    std::copy_n(clean_.begin() + step.layer * width, width, row);
    const HeadId& sender = senders_[static_cast<size_t>(t)];
    if (sender.layer != step.layer) continue;
    const int64_t first = sender.head * shape_.v_dim;
    std::copy_n(corrupt_.begin() + step.layer * width + first, shape_.v_dim, row + first);
  }
}

std::string FrozenHeads::cannot_trim_to(int64_t length) const {
  return length == position_ ? "" : "frozen heads hold one position";
}
void FrozenHeads::trim(int64_t length) {
  const std::string reason = cannot_trim_to(length);
  MNEME_CHECK(reason.empty(), "trim: ", reason);
}
std::unique_ptr<SequenceMemory> FrozenHeads::fork() const {
  fail("fork: frozen heads are not forked");
}
std::vector<StateTensor> FrozenHeads::save_state() const {
  fail("save: frozen heads are not saved");
}
void FrozenHeads::load_state(const TensorSource&, int64_t) {
  fail("load: frozen heads are not loaded");
}
int64_t FrozenHeads::predict_bytes(int64_t) const { return 0; }
void FrozenHeads::set_budget(int64_t) {}

void patch_direct_paths(DecoderModel& model, ThreadPool& pool, int32_t last_token, int64_t position,
                        const LastPosition& clean, const LastPosition& corrupt,
                        const PatchVisit& visit) {
  const std::vector<int32_t> tokens(static_cast<size_t>(kPatchesPerStep), last_token);
  in_parts(model.config(), visit, [&](std::span<const HeadId> part) {
    FrozenHeads memory(model.memory_shape(), position, clean.heads, corrupt.heads, part);
    const SequenceStep step{std::span(tokens).first(part.size()), &memory, Logits::kAll};
    return model.forward({&step, 1}, pool);
  });
}

void patch_total_effects(DecoderModel& model, ThreadPool& pool,
                         std::span<const int32_t> clean_tokens, const LastPosition& corrupt,
                         const PatchVisit& visit) {
  MNEME_CHECK(!clean_tokens.empty(), "path patching: a prompt without tokens");
  MNEME_CHECK(
      corrupt.heads.size() == static_cast<size_t>(model.config().layers * model.config().q_heads *
                                                  model.config().head_dim),
      "path patching: a recording of ", corrupt.heads.size(), " numbers");
  Session session(model, pool, float_memory(model));
  session.append(clean_tokens.first(clean_tokens.size() - 1));
  in_parts(model.config(), visit, [&](std::span<const HeadId> part) {
    std::vector<std::unique_ptr<SequenceMemory>> forks;
    std::vector<SequenceStep> steps;
    for (size_t i = 0; i < part.size(); ++i) {
      forks.push_back(session.memory().fork());
      steps.push_back({clean_tokens.last(1), forks.back().get(), Logits::kLast});
    }
    Exchange exchange(corrupt.heads, part);
    const ScopedHeadHooks hooks(model, &exchange);
    return model.forward(steps, pool);
  });
}

}  // namespace mneme
