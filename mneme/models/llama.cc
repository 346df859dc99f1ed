#include "mneme/models/llama.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <type_traits>

#include "mneme/core/error.h"
#include "mneme/models/weights.h"

namespace mneme {
namespace {

struct LlamaNames {
  std::string embedding, output_norm, output, layer;
  std::string attention_norm, q, k, v, o, ffn_norm, gate, up, down;
};

const LlamaNames kGguf = {
    "token_embd.weight",  "output_norm.weight", "output.weight",   "blk.",
    "attn_norm.weight",   "attn_q.weight",      "attn_k.weight",   "attn_v.weight",
    "attn_output.weight", "ffn_norm.weight",    "ffn_gate.weight", "ffn_up.weight",
    "ffn_down.weight"};
const LlamaNames kStateDict = {"model.embed_tokens.weight",
                               "model.norm.weight",
                               "lm_head.weight",
                               "model.layers.",
                               "input_layernorm.weight",
                               "self_attn.q_proj.weight",
                               "self_attn.k_proj.weight",
                               "self_attn.v_proj.weight",
                               "self_attn.o_proj.weight",
                               "post_attention_layernorm.weight",
                               "mlp.gate_proj.weight",
                               "mlp.up_proj.weight",
                               "mlp.down_proj.weight"};

DecoderWeights bind(const ModelConfig& c, const LlamaNames& names, const TensorSource& source) {
  c.validate(source.origin());
  WeightBinder binder(source);
  DecoderWeights weights;
  weights.embedding = binder.required(names.embedding, {c.vocabulary, c.hidden});
  weights.output_norm = binder.vector(names.output_norm, c.hidden);
  weights.output = binder.optional(names.output, {c.vocabulary, c.hidden});
  if (weights.output == nullptr) weights.output = weights.embedding;  // tied
  if (source.find("rope_freqs.weight") != nullptr)
    weights.rope_factors = binder.vector("rope_freqs.weight", c.head_dim / 2);
  const int64_t q_width = c.q_heads * c.head_dim;
  const int64_t kv_width = c.kv_heads * c.head_dim;
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    const std::string prefix = names.layer + std::to_string(layer) + ".";
    weights.layers.push_back(
        {.attention_norm = binder.vector(prefix + names.attention_norm, c.hidden),
         .q = binder.required(prefix + names.q, {q_width, c.hidden}),
         .k = binder.required(prefix + names.k, {kv_width, c.hidden}),
         .v = binder.required(prefix + names.v, {kv_width, c.hidden}),
         .o = binder.required(prefix + names.o, {c.hidden, q_width}),
         .ffn_norm = binder.vector(prefix + names.ffn_norm, c.hidden),
         .gate = binder.required(prefix + names.gate, {c.ffn, c.hidden}),
         .up = binder.required(prefix + names.up, {c.ffn, c.hidden}),
         .down = binder.required(prefix + names.down, {c.hidden, c.ffn})});
  }
  binder.finish();
  return weights;
}

}  // namespace

std::unique_ptr<DecoderModel> load_llama(std::shared_ptr<const GgufFile> file) {
  ModelConfig c;
  c.architecture = "llama";
  c.name = file->text_or("general.name", "");
  const std::string scaling = file->text_or("llama.rope.scaling.type", "none");
  MNEME_CHECK(scaling == "none" || scaling == "linear", file->origin(), ": rope scaling '", scaling,
              "' is not supported; none and linear are");
  c.hidden = file->integer("llama.embedding_length");
  c.layers = file->integer("llama.block_count");
  c.ffn = file->integer("llama.feed_forward_length");
  c.q_heads = file->integer("llama.attention.head_count");
  c.kv_heads = file->integer_or("llama.attention.head_count_kv", c.q_heads);
  c.context = file->integer("llama.context_length");
  MNEME_CHECK(c.q_heads > 0 && c.hidden > 0, file->origin(),
              ": the number of attention heads and the hidden size must be positive, got ",
              c.q_heads, " and ", c.hidden);
  c.head_dim = file->integer_or("llama.attention.key_length", c.hidden / c.q_heads);
  const int64_t rotated = file->integer_or("llama.rope.dimension_count", c.head_dim);
  MNEME_CHECK(rotated == c.head_dim, file->origin(), ": rotary positions over ", rotated, " of ",
              c.head_dim, " head dimensions are not supported");
  c.norm_epsilon = static_cast<float>(file->real("llama.attention.layer_norm_rms_epsilon"));
  c.rope_base = file->real_or("llama.rope.freq_base", 10000);
  c.rope_scale = scaling == "linear" ? file->real("llama.rope.scaling.factor") : 1;
  c.rope_pairs = RopePairs::kInterleaved;
  c.attention_scale = static_cast<float>(1 / std::sqrt(static_cast<double>(c.head_dim)));
  const TensorView* embedding = file->find(kGguf.embedding);
  MNEME_CHECK(embedding != nullptr && embedding->shape.size() == 2, file->origin(), ": ",
              kGguf.embedding, " is missing or no matrix");
  c.vocabulary = embedding->shape[0];
  c.windows.assign(static_cast<size_t>(std::max<int64_t>(0, std::min<int64_t>(c.layers, 4096))), 0);
  DecoderWeights weights = bind(c, kGguf, *file);
  return std::make_unique<DecoderModel>(std::move(c), std::move(weights), std::move(file));
}

std::unique_ptr<DecoderModel> load_llama_state_dict(std::string_view config_json,
                                                    std::shared_ptr<const TensorSource> tensors) {
  const std::string& origin = tensors->origin();
  const nlohmann::json json = nlohmann::json::parse(config_json, nullptr, false);
  MNEME_CHECK(json.is_object(), origin, ": the model's config is not a JSON object");
  const auto number = [&]<typename Number>(const char* key, std::optional<Number> fallback) {
    const auto found = json.find(key);
    if (found == json.end() || found->is_null()) {
      MNEME_CHECK(fallback.has_value(), origin, ": config lacks '", key, "'");
      return *fallback;
    }
    constexpr bool kReal = std::is_same_v<Number, double>;
    MNEME_CHECK(kReal ? found->is_number() : found->is_number_integer(), origin, ": config '", key,
                "' must be ", kReal ? "a number" : "an integer", ", got ", found->dump());
    return found->get<Number>();
  };
  const auto integer = [&](const char* key, std::optional<int64_t> fallback = {}) {
    return number(key, fallback);
  };
  const auto real = [&](const char* key, std::optional<double> fallback = {}) {
    return number(key, fallback);
  };
  const std::string type = json.value("model_type", "llama");
  MNEME_CHECK(type == "llama", origin, ": model type '", type, "' is not supported here; llama is");
  const std::string activation = json.value("hidden_act", "silu");
  MNEME_CHECK(activation == "silu", origin, ": activation '", activation,
              "' is not supported; silu is");
  MNEME_CHECK(!json.value("attention_bias", false) && !json.value("mlp_bias", false), origin,
              ": biases are not supported");
  MNEME_CHECK(!json.contains("rope_scaling") || json["rope_scaling"].is_null(), origin,
              ": rope_scaling is not supported");
  ModelConfig c;
  c.architecture = "llama";
  c.vocabulary = integer("vocab_size");
  c.hidden = integer("hidden_size");
  c.ffn = integer("intermediate_size");
  c.layers = integer("num_hidden_layers");
  c.q_heads = integer("num_attention_heads");
  c.kv_heads = integer("num_key_value_heads", c.q_heads);
  c.context = integer("max_position_embeddings");
  MNEME_CHECK(c.q_heads > 0 && c.layers >= 0 && c.layers <= 4096, origin, ": config has ",
              c.q_heads, " attention heads and ", c.layers, " layers");
  c.head_dim = integer("head_dim", c.hidden / c.q_heads);
  c.norm_epsilon = static_cast<float>(real("rms_norm_eps", 1e-6));
  c.rope_base = real("rope_theta", 10000.0);
  c.attention_scale = static_cast<float>(1 / std::sqrt(static_cast<double>(c.head_dim)));
  c.windows.assign(static_cast<size_t>(c.layers), 0);
  DecoderWeights weights = bind(c, kStateDict, *tensors);
  return std::make_unique<DecoderModel>(std::move(c), std::move(weights), std::move(tensors));
}

}  // namespace mneme
