// Whole models of a few kilobytes as GGUF bytes: seeded random weights, a byte-level vocabulary, a
// chat template. For tests of everything that takes a model file. Change what it says before
// build() to make it wrong in one place.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace mneme::testing {

struct TinyTensor {
  std::vector<int64_t> shape;  // outermost first
  std::vector<float> values;
};

// What a file will say; integers and reals are metadata under the architecture's prefix.
struct TinyGguf {
  std::string architecture;
  std::map<std::string, int64_t> integers;
  std::map<std::string, double> reals;
  std::map<std::string, std::string> texts;
  std::map<std::string, TinyTensor> tensors;
  std::string chat_template;

  std::string build() const;
};

// Two layers, hidden 64, 4 query and 2 KV heads of 32, context 512, vocabulary 260 (bytes, a merge,
// three control tokens).
TinyGguf tiny_llama_gguf(uint64_t seed = 1);
// Seven layers (the sixth sees everything), hidden 32, 2 query heads and 1 KV head of 64, window
// 16, context 512.
TinyGguf tiny_gemma3_gguf(uint64_t seed = 1);

}  // namespace mneme::testing
