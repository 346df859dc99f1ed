#include "mneme/models/gemma3.h"

#include <algorithm>
#include <cmath>

#include "mneme/core/error.h"
#include "mneme/models/weights.h"

namespace mneme {
namespace {

constexpr int64_t kFullEvery = 6;  // layers 5, 11, 17, ... see everything
constexpr double kWindowRopeBase =
    10000;  // fixed by the family; files give the base of the full layers only
constexpr int64_t k27bHidden =
    5376;  // the one size whose queries are scaled by hidden / heads instead of the head size

DecoderWeights bind(const ModelConfig& c, const TensorSource& source) {
  c.validate(source.origin());
  WeightBinder binder(source);
  DecoderWeights weights;
  weights.embedding = binder.required("token_embd.weight", {c.vocabulary, c.hidden});
  weights.output_norm = binder.vector("output_norm.weight", c.hidden);
  weights.output = binder.optional("output.weight", {c.vocabulary, c.hidden});
  if (weights.output == nullptr) weights.output = weights.embedding;  // tied
  const int64_t q_width = c.q_heads * c.head_dim;
  const int64_t kv_width = c.kv_heads * c.head_dim;
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    weights.layers.push_back(
        {.attention_norm = binder.vector(prefix + "attn_norm.weight", c.hidden),
         .q = binder.required(prefix + "attn_q.weight", {q_width, c.hidden}),
         .k = binder.required(prefix + "attn_k.weight", {kv_width, c.hidden}),
         .v = binder.required(prefix + "attn_v.weight", {kv_width, c.hidden}),
         .q_norm = binder.vector(prefix + "attn_q_norm.weight", c.head_dim),
         .k_norm = binder.vector(prefix + "attn_k_norm.weight", c.head_dim),
         .o = binder.required(prefix + "attn_output.weight", {c.hidden, q_width}),
         .attention_post_norm = binder.vector(prefix + "post_attention_norm.weight", c.hidden),
         .ffn_norm = binder.vector(prefix + "ffn_norm.weight", c.hidden),
         .gate = binder.required(prefix + "ffn_gate.weight", {c.ffn, c.hidden}),
         .up = binder.required(prefix + "ffn_up.weight", {c.ffn, c.hidden}),
         .down = binder.required(prefix + "ffn_down.weight", {c.hidden, c.ffn}),
         .ffn_post_norm = binder.vector(prefix + "post_ffw_norm.weight", c.hidden)});
  }
  binder.finish();
  return weights;
}

}  // namespace

std::unique_ptr<DecoderModel> load_gemma3(std::shared_ptr<const GgufFile> file) {
  ModelConfig c;
  c.architecture = "gemma3";
  c.name = file->text_or("general.name", "");
  c.hidden = file->integer("gemma3.embedding_length");
  c.layers = file->integer("gemma3.block_count");
  c.ffn = file->integer("gemma3.feed_forward_length");
  c.q_heads = file->integer("gemma3.attention.head_count");
  c.kv_heads = file->integer_or("gemma3.attention.head_count_kv", c.q_heads);
  c.head_dim = file->integer("gemma3.attention.key_length");
  const int64_t value_length = file->integer_or("gemma3.attention.value_length", c.head_dim);
  MNEME_CHECK(value_length == c.head_dim, file->origin(), ": value heads of ", value_length,
              " beside key heads of ", c.head_dim, " are not supported");
  c.context = file->integer("gemma3.context_length");
  c.norm_epsilon = static_cast<float>(file->real("gemma3.attention.layer_norm_rms_epsilon"));
  c.rope_base = file->real_or("gemma3.rope.freq_base", 1000000);
  c.rope_base_window = file->real_or("gemma3.rope.freq_base_swa", kWindowRopeBase);
  const std::string scaling = file->text_or("gemma3.rope.scaling.type", "none");
  MNEME_CHECK(scaling == "none" || scaling == "linear", file->origin(), ": rope scaling '", scaling,
              "' is not supported; none and linear are");
  c.rope_scale = scaling == "linear" ? file->real("gemma3.rope.scaling.factor") : 1;
  c.rope_pairs = RopePairs::kHalves;
  c.gate = ModelConfig::Gate::kGeluTanh;
  MNEME_CHECK(c.hidden > 0 && c.q_heads > 0, file->origin(),
              ": the hidden size and the number of attention heads must be positive, got ",
              c.hidden, " and ", c.q_heads);
  c.embedding_scale = static_cast<float>(std::sqrt(static_cast<double>(c.hidden)));
  const double query_scalar = c.hidden == k27bHidden ? static_cast<double>(c.hidden / c.q_heads)
                                                     : static_cast<double>(c.head_dim);
  c.attention_scale = static_cast<float>(1 / std::sqrt(query_scalar));
  const int64_t window = file->integer("gemma3.attention.sliding_window");
  MNEME_CHECK(window > 0, file->origin(), ": the sliding window must be positive, got ", window);
  for (int64_t layer = 0; layer < std::min<int64_t>(c.layers, 4096); ++layer)
    c.windows.push_back((layer + 1) % kFullEvery == 0 ? 0 : window);
  const TensorView* embedding = file->find("token_embd.weight");
  MNEME_CHECK(embedding != nullptr && embedding->shape.size() == 2, file->origin(),
              ": token_embd.weight is missing or no matrix");
  c.vocabulary = embedding->shape[0];
  DecoderWeights weights = bind(c, *file);
  return std::make_unique<DecoderModel>(std::move(c), std::move(weights), std::move(file));
}

}  // namespace mneme
