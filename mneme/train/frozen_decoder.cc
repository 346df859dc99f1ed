#include "mneme/train/frozen_decoder.h"

#include <ATen/ATen.h>

#include "mneme/core/error.h"
#include "mneme/kernels/matmul.h"

namespace mneme::train {
namespace {

using at::Tensor;

Tensor matrix(const TensorView& view, at::ScalarType type) {
  Tensor values = at::empty({view.shape[0], view.shape[1]}, at::kFloat);
  float* out = values.data_ptr<float>();
  for (int64_t row = 0; row < view.shape[0]; ++row)
    dequantize_row(view, row, out + row * view.shape[1]);
  return values.to(type);
}

Tensor vector(const TensorView& view) {
  return at::from_blob(const_cast<std::byte*>(view.data), {view.shape[0]}, at::kFloat).clone();
}

// Rows of each head from (a0, b0, a1, b1, ...) to (a0, a1, ..., b0, b1, ...).
Tensor heads_as_halves(const Tensor& weight, int64_t head_dim) {
  return weight.reshape({-1, head_dim / 2, 2, weight.size(1)})
      .transpose(1, 2)
      .reshape(weight.sizes());
}

// x [B, H, S, D], cosines and sines [S, D / 2].
Tensor turned(const Tensor& x, const Tensor& cosines, const Tensor& sines) {
  const Tensor a = x.narrow(-1, 0, x.size(-1) / 2),
               b = x.narrow(-1, x.size(-1) / 2, x.size(-1) / 2);
  return at::cat({a * cosines - b * sines, b * cosines + a * sines}, -1);
}

void check_llama(const ModelConfig& config, const DecoderWeights& weights) {
  MNEME_CHECK(config.gate == ModelConfig::Gate::kSilu && config.attention_softcap == 0 &&
                  config.logit_softcap == 0 && config.embedding_scale == 1,
              config.architecture, ": only llama models can be trained with so far");
  for (const LayerWeights& layer : weights.layers) {
    MNEME_CHECK(layer.q_norm == nullptr && layer.attention_post_norm == nullptr &&
                    layer.ffn_post_norm == nullptr,
                config.architecture, ": only llama models can be trained with so far");
  }
  for (const int64_t window : config.windows)
    MNEME_CHECK(window == 0, config.architecture, ": layers with a window cannot be routed");
}

}  // namespace

FrozenDecoder::FrozenDecoder(const DecoderModel& model, at::ScalarType type)
    : config_(model.config()), type_(type) {
  MNEME_CHECK(type == at::kFloat || type == at::kBFloat16,
              "frozen decoder: expected float32 or bfloat16, got ", c10::toString(type));
  const DecoderWeights& weights = model.weights();
  check_llama(config_, weights);
  embedding_ = matrix(*weights.embedding, type);
  output_ = weights.output == weights.embedding ? embedding_ : matrix(*weights.output, type);
  output_norm_ = vector(*weights.output_norm);
  if (weights.rope_factors != nullptr) rope_factors_ = vector(*weights.rope_factors);
  for (const LayerWeights& from : weights.layers) {
    Tensor q = matrix(*from.q, type), k = matrix(*from.k, type);
    if (config_.rope_pairs == RopePairs::kInterleaved) {
      q = heads_as_halves(q, config_.head_dim);
      k = heads_as_halves(k, config_.head_dim);
    }
    layers_.push_back({.attention_norm = vector(*from.attention_norm),
                       .qkv = at::cat({q, k, matrix(*from.v, type)}),
                       .o = matrix(*from.o, type),
                       .ffn_norm = vector(*from.ffn_norm),
                       .gate_up = at::cat({matrix(*from.gate, type), matrix(*from.up, type)}),
                       .down = matrix(*from.down, type)});
  }
}

Tensor FrozenDecoder::linear(const Tensor& x, const Tensor& weight) const {
  return at::linear(x.to(type_), weight).to(at::kFloat);
}

Tensor FrozenDecoder::norm(const Tensor& x, const Tensor& weight) const {
  return at::rms_norm(x, {config_.hidden}, weight, config_.norm_epsilon);
}

Tensor FrozenDecoder::logits(const Tensor& tokens, const Tensor& rows, const Attend& attend) const {
  MNEME_CHECK(tokens.dim() == 2 && tokens.size(1) <= config_.context,
              "frozen decoder: expected [B, ", "at most ", config_.context, "] tokens, got ",
              tokens.sizes());
  const int64_t batch = tokens.size(0), length = tokens.size(1), dim = config_.head_dim;
  const int64_t q_width = config_.q_heads * dim, kv_width = config_.kv_heads * dim;
  Tensor cosines = at::empty({length, dim / 2}, at::kFloat), sines = at::empty_like(cosines);
  rope_table(0, length, dim, config_.rope_base, config_.rope_scale,
             rope_factors_.defined() ? rope_factors_.data_ptr<float>() : nullptr,
             cosines.data_ptr<float>(), sines.data_ptr<float>());

  Tensor x = at::embedding(embedding_, tokens).to(at::kFloat);  // [B, S, hidden]
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    const Tensor qkv = linear(norm(x, layer.attention_norm), layer.qkv);
    const auto heads = [&](int64_t first, int64_t width) {
      return qkv.narrow(-1, first, width).reshape({batch, length, -1, dim});
    };
    const Tensor unrotated = heads(0, q_width);
    const Tensor q = turned(unrotated.transpose(1, 2), cosines, sines);
    const Tensor k = turned(heads(q_width, kv_width).transpose(1, 2), cosines, sines);
    const Tensor v = heads(q_width + kv_width, kv_width).transpose(1, 2);
    const Tensor mixed = attend(static_cast<int64_t>(i), unrotated, q, k, v);
    x = x + linear(mixed.transpose(1, 2).reshape({batch, length, q_width}), layer.o);
    if (i + 1 == layers_.size()) x = x.reshape({batch * length, -1}).index_select(0, rows);
    const Tensor gates = linear(norm(x, layer.ffn_norm), layer.gate_up);
    const Tensor gate = gates.narrow(-1, 0, config_.ffn),
                 up = gates.narrow(-1, config_.ffn, config_.ffn);
    x = x + linear(at::silu(gate) * up, layer.down);
  }
  return linear(norm(x, output_norm_), output_);
}

}  // namespace mneme::train
