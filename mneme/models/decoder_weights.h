// The weights of a decoder-only model and how they are found by name. A family differs from another
// in the names of its file format and in which of the optional norms it has: that is all its loader
// says (llama.cc, gemma3.cc). Tests: load_model_test.cc.
#pragma once

#include <string>
#include <vector>

#include "mneme/core/tensor_view.h"
#include "mneme/models/config.h"

namespace mneme {

// Views into the model's file; null where the family has no such weight.
struct LayerWeights {
  const TensorView* attention_norm = nullptr;       // [hidden]
  const TensorView* q = nullptr;                    // [q_heads * head_dim, hidden]
  const TensorView* k = nullptr;                    // [kv_heads * head_dim, hidden]
  const TensorView* v = nullptr;                    // [kv_heads * head_dim, hidden]
  const TensorView* q_norm = nullptr;               // [head_dim] or null
  const TensorView* k_norm = nullptr;               // [head_dim] or null
  const TensorView* o = nullptr;                    // [hidden, q_heads * head_dim]
  const TensorView* attention_post_norm = nullptr;  // [hidden] or null
  const TensorView* ffn_norm = nullptr;             // [hidden]
  const TensorView* gate = nullptr;                 // [ffn, hidden]
  const TensorView* up = nullptr;                   // [ffn, hidden]
  const TensorView* down = nullptr;                 // [hidden, ffn]
  const TensorView* ffn_post_norm = nullptr;        // [hidden] or null
};

struct DecoderWeights {
  const TensorView* embedding = nullptr;     // [vocabulary, hidden]
  const TensorView* output_norm = nullptr;   // [hidden]
  const TensorView* output = nullptr;        // [vocabulary, hidden]; the embedding where tied
  const TensorView* rope_factors = nullptr;  // [head_dim / 2] divides each frequency, or null
  std::vector<LayerWeights> layers;
};

// Tensor names; those of a layer follow `layer` + its number + ".". Empty: the family has none.
struct DecoderNames {
  std::string embedding, output_norm, output, rope_factors;
  std::string layer;
  std::string attention_norm, q, k, v, q_norm, k_norm, o, attention_post_norm;
  std::string ffn_norm, gate, up, down, ffn_post_norm;
};

// Finds every weight in `source` and checks its shape against `config`, which is validated first.
// `output` and `rope_factors` may be missing from the file, the other named ones may not. Throws
// Error listing what is missing, surplus or of another shape. The views live as long as `source`.
DecoderWeights bind_decoder(const ModelConfig& config, const DecoderNames& names,
                            const TensorSource& source);

}  // namespace mneme
