#include "mneme/models/decoder.h"

#include <algorithm>
#include <numeric>

#include "mneme/core/error.h"
#include "mneme/core/grown.h"
#include "mneme/kernels/decoder_rows.h"
#include "mneme/kernels/matmul.h"

namespace mneme {
namespace {

// The feed-forward layer takes a long step in parts: its two intermediates are the widest of all.
constexpr int64_t kFeedForwardRows = 512;

// Norm weights are float32 in every file we read; checked when the weights are bound.
const float* floats(const TensorView* tensor) {
  return reinterpret_cast<const float*>(tensor->data);
}

const float* floats_or_null(const TensorView* tensor) {
  return tensor == nullptr ? nullptr : floats(tensor);
}

// x [rows, dim]: from (a0, b0, a1, b1, ...) to (a0, a1, ..., b0, b1, ...).
void pairs_to_halves(float* x, int64_t rows, int64_t dim) {
  std::vector<float> halves(static_cast<size_t>(dim));
  for (int64_t row = 0; row < rows; ++row, x += dim) {
    for (int64_t i = 0; i < dim; ++i) halves[static_cast<size_t>(i % 2 * dim / 2 + i / 2)] = x[i];
    std::ranges::copy(halves, x);
  }
}

int64_t logit_rows_of(const SequenceStep& step) {
  switch (step.logits) {
    case Logits::kNone:
      return 0;
    case Logits::kLast:
      return 1;
    case Logits::kAll:
      return static_cast<int64_t>(step.tokens.size());
  }
  return 0;
}

}  // namespace

DecoderModel::DecoderModel(ModelConfig config, DecoderWeights weights,
                           std::shared_ptr<const TensorSource> source)
    : config_(std::move(config)), weights_(std::move(weights)), source_(std::move(source)) {
  config_.validate(source_->origin());
  MNEME_ASSERT(static_cast<int64_t>(weights_.layers.size()) == config_.layers);
  shape_ = config_.memory_shape();
  ThreadPool pool;
  use_stored_weights(pool);
  if (weights_.rope_factors != nullptr) {
    rope_factors_.resize(static_cast<size_t>(config_.head_dim / 2));
    std::copy_n(floats(weights_.rope_factors), rope_factors_.size(), rope_factors_.begin());
    for (size_t layer = 0; layer < shape_.rotary.size(); ++layer) {
      if (!has_window_rope(static_cast<int64_t>(layer)))
        shape_.rotary[layer].factors = rope_factors_;
    }
  }
}

void DecoderModel::set_output(std::unique_ptr<Linear> output) {
  output_ = std::move(output);
  released_output_bytes_ = 0;
  // A tied embedding is read from the packed rows too.
  if (!output_->reads_tensor()) released_output_bytes_ = source_->release(*weights_.output);
}

void DecoderModel::use_stored_weights(ThreadPool& pool) {
  set_output(stored_linear(*weights_.output, pool));
  set_linears([&](int64_t, const TensorView& weight) { return stored_linear(weight, pool); },
              "file");
}

void DecoderModel::use_float_products() {
  set_output(float_linear(*weights_.output));
  set_linears([](int64_t, const TensorView& weight) { return float_linear(weight); }, "float");
}

void DecoderModel::embed(int32_t token, float* out) const {
  const PackedWeight* packed = output_->packed();
  if (packed != nullptr && weights_.output == weights_.embedding) {
    packed->dequantize_row(token, out);
  } else {
    dequantize_row(*weights_.embedding, token, out);
  }
}

void DecoderModel::set_linears(LinearMaker make, std::string form) {
  linear_form_ = std::move(form);
  linears_.clear();
  linears_.reserve(weights_.layers.size());
  released_bytes_ = 0;
  for (const LayerWeights& weights : weights_.layers) {
    const auto layer = static_cast<int64_t>(linears_.size());
    const auto linear = [&](const TensorView* weight) {
      std::unique_ptr<Linear> made = make(layer, *weight);
      if (!made->reads_tensor()) released_bytes_ += source_->release(*weight);
      return made;
    };
    linears_.push_back({.q = linear(weights.q),
                        .k = linear(weights.k),
                        .v = linear(weights.v),
                        .o = linear(weights.o),
                        .gate = linear(weights.gate),
                        .up = linear(weights.up),
                        .down = linear(weights.down)});
  }
}

int64_t DecoderModel::weight_bytes() const {
  int64_t bytes = output_->owned_bytes() - released_output_bytes_ - released_bytes_;
  for (const TensorView& tensor : source_->tensors()) bytes += tensor.bytes;
  for_each_linear([&](const Linear& linear, const TensorView&) { bytes += linear.owned_bytes(); });
  return bytes;
}

int64_t DecoderModel::linear_bytes() const {
  int64_t bytes = 0;
  for_each_linear([&](const Linear& linear, const TensorView& weight) {
    bytes += linear.owned_bytes() + (linear.reads_tensor() ? weight.bytes : 0);
  });
  return bytes;
}

void DecoderModel::for_each_linear(
    FunctionRef<void(const Linear& linear, const TensorView& weight)> visit) const {
  for (size_t i = 0; i < linears_.size(); ++i) {
    const LayerLinears& linears = linears_[i];
    const LayerWeights& weights = weights_.layers[i];
    visit(*linears.q, *weights.q);
    visit(*linears.k, *weights.k);
    visit(*linears.v, *weights.v);
    visit(*linears.o, *weights.o);
    visit(*linears.gate, *weights.gate);
    visit(*linears.up, *weights.up);
    visit(*linears.down, *weights.down);
  }
}

int64_t DecoderModel::workspace_bytes(int64_t tokens, int64_t logit_rows) const {
  const int64_t heads = 2 * config_.q_heads + 2 * config_.kv_heads +
                        2;  // q, mixed, k, v; two rotary tables of two halves
  const int64_t per_token = 2 * config_.hidden + heads * config_.head_dim;
  const int64_t feed_forward = std::min(tokens, kFeedForwardRows) * 2 * config_.ffn;
  int64_t scratch = output_->workspace_bytes(logit_rows);
  for_each_linear([&](const Linear& linear, const TensorView&) {
    scratch = std::max(scratch, linear.workspace_bytes(tokens));
  });
  return (tokens * per_token + feed_forward + logit_rows * config_.vocabulary) *
             static_cast<int64_t>(sizeof(float)) +
         scratch;
}

int64_t DecoderModel::check(std::span<const SequenceStep> steps) const {
  int64_t layers = config_.layers;
  for (size_t i = 0; i < steps.size(); ++i) {
    const SequenceStep& step = steps[i];
    MNEME_CHECK(!step.tokens.empty(), "forward: sequence ", i, " has no tokens");
    MNEME_CHECK(step.memory != nullptr, "forward: sequence ", i, " has no memory");
    const MemoryShape& shape = step.memory->shape();
    MNEME_CHECK(shape.q_heads == shape_.q_heads && shape.kv_heads == shape_.kv_heads &&
                    shape.k_dim == shape_.k_dim && shape.v_dim == shape_.v_dim &&
                    shape.layers() >= 1 && shape.layers() <= config_.layers &&
                    std::ranges::equal(shape.windows,
                                       std::span(shape_.windows).first(shape.windows.size())),
                "forward: the memory of sequence ", i, " was made for another model");
    if (i == 0) layers = shape.layers();
    MNEME_CHECK(shape.layers() == layers, "forward: the memories of sequences 0 and ", i, " have ",
                layers, " and ", shape.layers(), " layers");
    MNEME_CHECK(layers == config_.layers || step.logits == Logits::kNone,
                "forward: logits are asked for of a run of ", layers, " layers of ",
                config_.layers);
    for (size_t j = 0; j < i; ++j) {
      MNEME_CHECK(steps[j].memory != step.memory, "forward: sequences ", j, " and ", i,
                  " share one memory; fork it");
    }
    for (const int32_t token : step.tokens) {
      MNEME_CHECK(token >= 0 && token < config_.vocabulary, "forward: token ids are 0 to ",
                  config_.vocabulary - 1, ", got ", token);
    }
  }
  return layers;
}

void DecoderModel::prepare(std::span<const SequenceStep> steps, int64_t tokens,
                           int64_t logit_rows) {
  const int64_t half = config_.head_dim / 2;
  grown(x_, tokens * config_.hidden);
  grown(normed_, tokens * config_.hidden);
  grown(q_, tokens * config_.q_heads * config_.head_dim);
  grown(mixed_, tokens * config_.q_heads * config_.head_dim);
  grown(k_, tokens * config_.kv_heads * config_.head_dim);
  grown(v_, tokens * config_.kv_heads * config_.head_dim);
  grown(gate_, std::min(tokens, kFeedForwardRows) * config_.ffn);
  grown(up_, std::min(tokens, kFeedForwardRows) * config_.ffn);
  grown(unrotated_,
        2 * std::accumulate(unrotated_rows_.begin(), unrotated_rows_.end(), int64_t{0}) *
            config_.q_heads * config_.head_dim);
  grown(logits_, logit_rows * config_.vocabulary);
  for (auto* table : {&cosines_, &sines_, &window_cosines_, &window_sines_})
    grown(*table, tokens * half);

  int64_t row = 0;
  for (const SequenceStep& step : steps) {
    const int64_t first = step.memory->length();
    const auto count = static_cast<int64_t>(step.tokens.size());
    const float* factors = rope_factors_.empty() ? nullptr : rope_factors_.data();
    // A memory that turns rows itself gets them turned by nothing.
    const bool turned = !step.memory->capabilities().unrotated;
    const auto fill_table = [&](double base, double scale, const float* divisors,
                                std::vector<float>& cosines, std::vector<float>& sines) {
      float* const c = cosines.data() + row * half;
      float* const s = sines.data() + row * half;
      if (turned) {
        rope_table(first, count, config_.head_dim, base, scale, divisors, c, s);
      } else {
        std::fill_n(c, count * half, 1.0f);
        std::fill_n(s, count * half, 0.0f);
      }
    };
    fill_table(config_.rope_base, config_.rope_scale, factors, cosines_, sines_);
    if (config_.rope_base_window != 0)
      fill_table(config_.rope_base_window, 1, nullptr, window_cosines_, window_sines_);
    for (const int32_t token : step.tokens) embed(token, x_.data() + config_.hidden * row++);
  }
  if (config_.embedding_scale != 1)
    scale(x_.data(), config_.embedding_scale, tokens * config_.hidden);
}

void DecoderModel::attention(int64_t layer, std::span<const SequenceStep> steps, int64_t tokens,
                             ThreadPool& pool) {
  const LayerWeights& weights = weights_.layers[static_cast<size_t>(layer)];
  const LayerLinears& linears = linears_[static_cast<size_t>(layer)];
  const int64_t dim = config_.head_dim;
  const int64_t q_width = config_.q_heads * dim;
  const int64_t kv_width = config_.kv_heads * dim;
  const LinearOutput projections[] = {{linears.q.get(), q_.data(), q_width},
                                      {linears.k.get(), k_.data(), kv_width},
                                      {linears.v.get(), v_.data(), kv_width}};
  apply_together(projections, normed_.data(), tokens, config_.hidden, pool);
  const bool window_table = has_window_rope(layer);
  const float* cosines = window_table ? window_cosines_.data() : cosines_.data();
  const float* sines = window_table ? window_sines_.data() : sines_.data();
  keep_unrotated(weights, steps);
  const RotaryRows turned[] = {{q_.data(), config_.q_heads, floats_or_null(weights.q_norm)},
                               {k_.data(), config_.kv_heads, floats_or_null(weights.k_norm)}};
  norm_rope(turned, config_.norm_epsilon, tokens, dim, config_.rope_pairs, cosines, sines, pool);

  int64_t row = 0;
  const float* unrotated = unrotated_.data();
  for (size_t sequence = 0; sequence < steps.size(); ++sequence) {
    const SequenceStep& step = steps[sequence];
    const int64_t kept = unrotated_rows_[sequence] * q_width;
    HeadStep hooked{.layer = layer,
                    .sequence = static_cast<int64_t>(sequence),
                    .first_position = step.memory->length(),
                    .tokens = static_cast<int64_t>(step.tokens.size()),
                    .heads = config_.q_heads,
                    .dim = dim,
                    .rows = q_.data() + row * q_width};
    if (head_hooks_ != nullptr) head_hooks_->queries(hooked);
    step.memory->attend({.layer = layer,
                         .q = q_.data() + row * q_width,
                         .k = k_.data() + row * kv_width,
                         .v = v_.data() + row * kv_width,
                         .first_unrotated = kept > 0 ? unrotated : nullptr,
                         .last_unrotated = kept > 0 ? unrotated + kept : nullptr,
                         .scale = config_.attention_scale,
                         .softcap = config_.attention_softcap,
                         .out = mixed_.data() + row * q_width},
                        pool);
    hooked.rows = mixed_.data() + row * q_width;
    if (head_hooks_ != nullptr) head_hooks_->outputs(hooked);
    row += static_cast<int64_t>(step.tokens.size());
    unrotated += 2 * kept;
  }
  linears.o->apply(mixed_.data(), tokens, q_width, normed_.data(), config_.hidden, pool);
  add_rms_norm(x_.data(), normed_.data(), floats_or_null(weights.attention_post_norm),
               floats(weights.ffn_norm), config_.norm_epsilon, tokens, config_.hidden,
               normed_.data(), pool);
}

void DecoderModel::keep_unrotated(const LayerWeights& weights,
                                  std::span<const SequenceStep> steps) {
  const int64_t width = config_.q_heads * config_.head_dim;
  float* out = unrotated_.data();
  int64_t row = 0;
  for (size_t i = 0; i < steps.size(); ++i) {
    const auto count = static_cast<int64_t>(steps[i].tokens.size());
    const int64_t kept = unrotated_rows_[i];
    for (const int64_t first : {row, row + count - kept}) {
      std::copy_n(q_.data() + first * width, kept * width, out);
      if (weights.q_norm != nullptr && kept > 0) {
        rms_norm(out, floats(weights.q_norm), config_.norm_epsilon, kept * config_.q_heads,
                 config_.head_dim, out);
      }
      if (config_.rope_pairs == RopePairs::kInterleaved)
        pairs_to_halves(out, kept * config_.q_heads, config_.head_dim);
      out += kept * width;
    }
    row += count;
  }
}

void DecoderModel::feed_forward(int64_t layer, int64_t tokens, ThreadPool& pool) {
  const LayerWeights& weights = weights_.layers[static_cast<size_t>(layer)];
  const LayerLinears& linears = linears_[static_cast<size_t>(layer)];
  const bool last = layer + 1 == config_.layers;  // its norm is taken of wanted rows only
  const float* next_norm =
      last ? nullptr : floats(weights_.layers[static_cast<size_t>(layer + 1)].attention_norm);
  for (int64_t first = 0; first < tokens; first += kFeedForwardRows) {
    const int64_t rows = std::min(kFeedForwardRows, tokens - first);
    float* normed = normed_.data() + first * config_.hidden;
    const LinearOutput halves[] = {{linears.gate.get(), gate_.data(), config_.ffn},
                                   {linears.up.get(), up_.data(), config_.ffn}};
    apply_together(halves, normed, rows, config_.hidden, pool);
    if (config_.gate == ModelConfig::Gate::kSilu) {
      silu_mul(gate_.data(), up_.data(), rows * config_.ffn, pool);
    } else {
      gelu_tanh_mul(gate_.data(), up_.data(), rows * config_.ffn, pool);
    }
    linears.down->apply(gate_.data(), rows, config_.ffn, normed, config_.hidden, pool);
    add_rms_norm(x_.data() + first * config_.hidden, normed, floats_or_null(weights.ffn_post_norm),
                 next_norm, config_.norm_epsilon, rows, config_.hidden, normed, pool);
  }
}

std::span<const float> DecoderModel::forward(std::span<const SequenceStep> steps,
                                             ThreadPool& pool) {
  const int64_t layers = check(steps);
  if (steps.empty()) return {};
  int64_t tokens = 0;
  int64_t logit_rows = 0;
  size_t begun = 0;
  unrotated_rows_.clear();
  try {
    for (const SequenceStep& step : steps) {
      const auto count = static_cast<int64_t>(step.tokens.size());
      tokens += count;
      logit_rows += logit_rows_of(step);
      const StepPlan plan = step.memory->plan(count, step.following);
      step.memory->begin(plan);
      ++begun;
      unrotated_rows_.push_back(plan.unrotated_rows);
    }
    prepare(steps, tokens, logit_rows);
    rms_norm(x_.data(), floats(weights_.layers.front().attention_norm), config_.norm_epsilon,
             tokens, config_.hidden, normed_.data(), pool);
    for (int64_t layer = 0; layer < layers; ++layer) {
      attention(layer, steps, tokens, pool);
      // What comes after the last memory's layer nobody reads.
      if (layer + 1 < layers || layers == config_.layers) feed_forward(layer, tokens, pool);
    }
    // Rows whose logits are wanted move to the front, so that the largest product runs on them
    // alone.
    int64_t row = 0;
    int64_t wanted = 0;
    for (const SequenceStep& step : steps) {
      const auto count = static_cast<int64_t>(step.tokens.size());
      const int64_t first = row + count - logit_rows_of(step);
      for (int64_t source = first; source < row + count; ++source, ++wanted) {
        rms_norm(x_.data() + source * config_.hidden, floats(weights_.output_norm),
                 config_.norm_epsilon, 1, config_.hidden, normed_.data() + wanted * config_.hidden);
      }
      row += count;
    }
    if (logit_rows > 0) {
      output_->apply(normed_.data(), logit_rows, config_.hidden, logits_.data(), config_.vocabulary,
                     pool);
      if (config_.logit_softcap > 0)
        softcap(logits_.data(), config_.logit_softcap, logit_rows * config_.vocabulary);
    }
  } catch (...) {
    for (size_t i = 0; i < begun; ++i) steps[i].memory->abort();
    throw;
  }
  for (const SequenceStep& step : steps) step.memory->commit();
  return {logits_.data(), static_cast<size_t>(logit_rows * config_.vocabulary)};
}

}  // namespace mneme
