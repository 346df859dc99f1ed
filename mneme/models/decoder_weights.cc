#include "mneme/models/decoder_weights.h"

#include "mneme/models/weights.h"

namespace mneme {

DecoderWeights bind_decoder(const ModelConfig& config, const DecoderNames& names,
                            const TensorSource& source) {
  config.validate(source.origin());
  WeightBinder binder(source);
  const int64_t hidden = config.hidden;
  const int64_t q_width = config.q_heads * config.head_dim;
  const int64_t kv_width = config.kv_heads * config.head_dim;

  DecoderWeights weights;
  weights.embedding = binder.required(names.embedding, {config.vocabulary, hidden});
  weights.output_norm = binder.vector(names.output_norm, hidden);
  weights.output = binder.optional(names.output, {config.vocabulary, hidden});
  if (weights.output == nullptr) weights.output = weights.embedding;  // tied
  if (!names.rope_factors.empty() && source.find(names.rope_factors) != nullptr)
    weights.rope_factors = binder.vector(names.rope_factors, config.head_dim / 2);

  for (int64_t layer = 0; layer < config.layers; ++layer) {
    const std::string prefix = names.layer + std::to_string(layer) + ".";
    const auto matrix = [&](const std::string& name, int64_t out, int64_t in) {
      return binder.required(prefix + name, {out, in});
    };
    const auto norm = [&](const std::string& name, int64_t extent) -> const TensorView* {
      return name.empty() ? nullptr : binder.vector(prefix + name, extent);
    };
    weights.layers.push_back({.attention_norm = norm(names.attention_norm, hidden),
                              .q = matrix(names.q, q_width, hidden),
                              .k = matrix(names.k, kv_width, hidden),
                              .v = matrix(names.v, kv_width, hidden),
                              .q_norm = norm(names.q_norm, config.head_dim),
                              .k_norm = norm(names.k_norm, config.head_dim),
                              .o = matrix(names.o, hidden, q_width),
                              .attention_post_norm = norm(names.attention_post_norm, hidden),
                              .ffn_norm = norm(names.ffn_norm, hidden),
                              .gate = matrix(names.gate, config.ffn, hidden),
                              .up = matrix(names.up, config.ffn, hidden),
                              .down = matrix(names.down, hidden, config.ffn),
                              .ffn_post_norm = norm(names.ffn_post_norm, hidden)});
  }
  binder.finish();
  return weights;
}

}  // namespace mneme
