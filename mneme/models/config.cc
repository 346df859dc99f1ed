#include "mneme/models/config.h"

#include <cmath>

#include "mneme/core/error.h"

namespace mneme {

void ModelConfig::validate(const std::string& origin) const {
  const auto positive = [&](int64_t value, int64_t limit, const char* what) {
    MNEME_CHECK(value > 0 && value <= limit, origin, ": ", what, " must be 1 to ", limit, ", got ",
                value);
  };
  positive(layers, 4096, "the number of layers");
  positive(vocabulary, int64_t{1} << 28, "the vocabulary size");
  positive(hidden, 1 << 20, "the hidden size");
  positive(ffn, 1 << 22, "the feed-forward size");
  positive(q_heads, 4096, "the number of attention heads");
  positive(kv_heads, 4096, "the number of KV heads");
  positive(head_dim, 512, "the head size");
  positive(context, INT32_MAX - 1, "the context length");
  MNEME_CHECK(q_heads % kv_heads == 0, origin, ": ", q_heads,
              " attention heads are not divisible by ", kv_heads, " KV heads");
  MNEME_CHECK(head_dim % 2 == 0, origin, ": rotary embeddings need an even head size, got ",
              head_dim);
  const auto is_rope_base = [](double base) { return std::isfinite(base) && base > 0; };
  MNEME_CHECK(is_rope_base(rope_base), origin, ": the rope base must be a positive number, got ",
              rope_base);
  MNEME_CHECK(rope_base_window == 0 || is_rope_base(rope_base_window), origin,
              ": the rope base of window layers must be a positive number, got ", rope_base_window);
  MNEME_CHECK(std::isfinite(rope_scale) && rope_scale > 0, origin,
              ": the rope scale must be a positive number, got ", rope_scale);
  MNEME_CHECK(std::isfinite(norm_epsilon) && norm_epsilon > 0, origin,
              ": the norm epsilon must be a positive number, got ", norm_epsilon);
  MNEME_CHECK(std::isfinite(attention_scale) && attention_scale > 0, origin,
              ": the attention scale must be a positive number, got ", attention_scale);
  MNEME_CHECK(static_cast<int64_t>(windows.size()) == layers, origin, ": windows are given for ",
              windows.size(), " of ", layers, " layers");
}

MemoryShape ModelConfig::memory_shape() const {
  std::vector<RotaryPositions> rotary;
  for (const int64_t window : windows) {
    const bool own = rope_base_window != 0 && window > 0;
    rotary.push_back({.pairs = rope_pairs,
                      .base = own ? rope_base_window : rope_base,
                      .scale = own ? 1 : rope_scale});
  }
  return {.q_heads = q_heads,
          .kv_heads = kv_heads,
          .k_dim = head_dim,
          .v_dim = head_dim,
          .context = context,
          .windows = windows,
          .rotary = std::move(rotary)};
}

std::string ModelConfig::text() const {
  std::string text = concat(
      architecture, ' ', vocabulary, ' ', hidden, ' ', ffn, ' ', layers, ' ', q_heads, ' ',
      kv_heads, ' ', head_dim, ' ', context, ' ', norm_epsilon, ' ', rope_base, ' ', rope_scale,
      ' ', rope_base_window, ' ', static_cast<int>(rope_pairs), ' ', attention_scale, ' ',
      embedding_scale, ' ', attention_softcap, ' ', logit_softcap, ' ', static_cast<int>(gate));
  for (const int64_t window : windows) text += " " + std::to_string(window);
  return text;
}

}  // namespace mneme
