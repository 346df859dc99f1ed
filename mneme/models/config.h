// The numbers that describe a decoder-only model, checked once.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mneme/cache/memory.h"
#include "mneme/kernels/elementwise.h"

namespace mneme {

struct ModelConfig {
  std::string architecture;  // "llama", "gemma3"
  std::string name;
  int64_t vocabulary = 0;
  int64_t hidden = 0;
  int64_t ffn = 0;
  int64_t layers = 0;
  int64_t q_heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t context = 0;
  float norm_epsilon = 1e-5f;
  double rope_base = 10000;
  double rope_scale = 1;  // positions are divided by it
  // Of layers with a window, where it differs; 0: rope_base, scaled alike.
  double rope_base_window = 0;
  RopePairs rope_pairs = RopePairs::kHalves;
  std::vector<int64_t> windows;  // [layers] 0: full attention
  float attention_scale = 0;     // multiplies q . k
  float embedding_scale = 1;     // multiplies token embeddings
  float attention_softcap = 0;   // 0: none
  float logit_softcap = 0;       // 0: none
  enum class Gate { kSilu, kGeluTanh } gate = Gate::kSilu;

  // Throws Error with a message of its own for each thing that cannot be: heads not divisible,
  // nothing of something, a rope base that is not a positive number ...; `origin` names the file.
  void validate(const std::string& origin) const;
  MemoryShape memory_shape() const;
  std::string text() const;  // every field, for fingerprints
};

}  // namespace mneme
