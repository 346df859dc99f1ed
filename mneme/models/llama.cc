#include "mneme/models/llama.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <type_traits>

#include "mneme/core/error.h"

namespace mneme {
namespace {

const DecoderNames kGguf = {.embedding = "token_embd.weight",
                            .output_norm = "output_norm.weight",
                            .output = "output.weight",
                            .rope_factors = "rope_freqs.weight",
                            .layer = "blk.",
                            .attention_norm = "attn_norm.weight",
                            .q = "attn_q.weight",
                            .k = "attn_k.weight",
                            .v = "attn_v.weight",
                            .o = "attn_output.weight",
                            .ffn_norm = "ffn_norm.weight",
                            .gate = "ffn_gate.weight",
                            .up = "ffn_up.weight",
                            .down = "ffn_down.weight"};
const DecoderNames kStateDict = {.embedding = "model.embed_tokens.weight",
                                 .output_norm = "model.norm.weight",
                                 .output = "lm_head.weight",
                                 .layer = "model.layers.",
                                 .attention_norm = "input_layernorm.weight",
                                 .q = "self_attn.q_proj.weight",
                                 .k = "self_attn.k_proj.weight",
                                 .v = "self_attn.v_proj.weight",
                                 .o = "self_attn.o_proj.weight",
                                 .ffn_norm = "post_attention_layernorm.weight",
                                 .gate = "mlp.gate_proj.weight",
                                 .up = "mlp.up_proj.weight",
                                 .down = "mlp.down_proj.weight"};

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
  DecoderWeights weights = bind_decoder(c, kGguf, *file);
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
  DecoderWeights weights = bind_decoder(c, kStateDict, *tensors);
  return std::make_unique<DecoderModel>(std::move(c), std::move(weights), std::move(tensors));
}

}  // namespace mneme
