#include "mneme/models/gemma3.h"

#include <algorithm>
#include <cmath>

#include "mneme/core/error.h"

namespace mneme {
namespace {

constexpr int64_t kFullEvery = 6;  // layers 5, 11, 17, ... see everything
// Fixed by the family; files give the base of the full layers only.
constexpr double kWindowRopeBase = 10000;
// The one size whose queries are scaled by hidden / heads instead of the head size.
constexpr int64_t k27bHidden = 5376;

const DecoderNames kGguf = {.embedding = "token_embd.weight",
                            .output_norm = "output_norm.weight",
                            .output = "output.weight",
                            .layer = "blk.",
                            .attention_norm = "attn_norm.weight",
                            .q = "attn_q.weight",
                            .k = "attn_k.weight",
                            .v = "attn_v.weight",
                            .q_norm = "attn_q_norm.weight",
                            .k_norm = "attn_k_norm.weight",
                            .o = "attn_output.weight",
                            .attention_post_norm = "post_attention_norm.weight",
                            .ffn_norm = "ffn_norm.weight",
                            .gate = "ffn_gate.weight",
                            .up = "ffn_up.weight",
                            .down = "ffn_down.weight",
                            .ffn_post_norm = "post_ffw_norm.weight"};

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
  const TensorView* embedding = file->find(kGguf.embedding);
  MNEME_CHECK(embedding != nullptr && embedding->shape.size() == 2, file->origin(), ": ",
              kGguf.embedding, " is missing or no matrix");
  c.vocabulary = embedding->shape[0];
  DecoderWeights weights = bind_decoder(c, kGguf, *file);
  return std::make_unique<DecoderModel>(std::move(c), std::move(weights), std::move(file));
}

}  // namespace mneme
