#include "tests/support/tiny_gguf.h"

#include <cmath>
#include <cstring>

#include "mneme/core/rng.h"
#include "mneme/io/tokenizer_testing.h"
#include "tests/support/gguf_builder.h"

namespace mneme::testing {
namespace {

std::string spelling(int byte) { return bpe_spelling(std::string(1, static_cast<char>(byte))); }

class Randomiser {
 public:
  Randomiser(TinyGguf& file, uint64_t seed) : file_(file), rng_(seed) {}

  void add(const std::string& name, std::vector<int64_t> shape) {
    int64_t elements = 1;
    for (const int64_t extent : shape) elements *= extent;
    const bool norm = shape.size() == 1;
    const double spread = norm ? 0.1 : 1 / std::sqrt(static_cast<double>(shape.back()));
    TinyTensor tensor{std::move(shape), std::vector<float>(static_cast<size_t>(elements))};
    for (float& value : tensor.values)
      value = static_cast<float>((norm ? 1 : 0) + spread * rng_.normal());
    file_.tensors[name] = std::move(tensor);
  }

 private:
  TinyGguf& file_;
  Rng rng_;
};

constexpr int64_t kVocabulary = 260;

}  // namespace

std::string TinyGguf::build() const {
  GgufBuilder builder;
  builder.text("general.architecture", architecture);
  builder.text("general.name", "tiny " + architecture);
  for (const auto& [key, value] : integers)
    builder.integer(architecture + "." + key, static_cast<uint32_t>(value));
  for (const auto& [key, value] : reals)
    builder.real(architecture + "." + key, static_cast<float>(value));
  for (const auto& [key, value] : texts) builder.text(architecture + "." + key, value);

  std::vector<std::string> pieces;
  std::vector<int32_t> types(kVocabulary, 1);
  for (int byte = 0; byte < 256; ++byte) pieces.push_back(spelling(byte));
  pieces.push_back(spelling('a') + spelling('a'));
  for (const char* control : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}) {
    types[pieces.size()] = 3;
    pieces.emplace_back(control);
  }
  builder.text("tokenizer.ggml.model", "gpt2")
      .text("tokenizer.ggml.pre", "smollm")
      .texts("tokenizer.ggml.tokens", pieces);
  builder.integers("tokenizer.ggml.token_type", types)
      .texts("tokenizer.ggml.merges", {spelling('a') + " " + spelling('a')});
  builder.integer("tokenizer.ggml.bos_token_id", 258).integer("tokenizer.ggml.eos_token_id", 259);
  builder.boolean("tokenizer.ggml.add_bos_token", false);
  if (!chat_template.empty()) builder.text("tokenizer.chat_template", chat_template);

  for (const auto& [name, tensor] : tensors) {
    std::vector<uint64_t> extents(tensor.shape.rbegin(), tensor.shape.rend());
    std::string bytes(tensor.values.size() * sizeof(float), '\0');
    std::memcpy(bytes.data(), tensor.values.data(), bytes.size());
    builder.tensor(name, 0, std::move(extents), bytes);
  }
  return builder.build();
}

TinyGguf tiny_llama_gguf(uint64_t seed) {
  TinyGguf file;
  file.architecture = "llama";
  file.integers = {{"embedding_length", 64},       {"block_count", 2},
                   {"feed_forward_length", 96},    {"attention.head_count", 4},
                   {"attention.head_count_kv", 2}, {"context_length", 512},
                   {"attention.key_length", 32},   {"rope.dimension_count", 32}};
  file.reals = {{"attention.layer_norm_rms_epsilon", 1e-5}, {"rope.freq_base", 10000}};
  file.chat_template =
      "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content "
      "}}<|im_end|>\n{% endfor %}"
      "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
  Randomiser random(file, seed);
  random.add("token_embd.weight", {kVocabulary, 64});
  random.add("output_norm.weight", {64});
  for (int layer = 0; layer < 2; ++layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    random.add(prefix + "attn_norm.weight", {64});
    random.add(prefix + "attn_q.weight", {128, 64});
    random.add(prefix + "attn_k.weight", {64, 64});
    random.add(prefix + "attn_v.weight", {64, 64});
    random.add(prefix + "attn_output.weight", {64, 128});
    random.add(prefix + "ffn_norm.weight", {64});
    random.add(prefix + "ffn_gate.weight", {96, 64});
    random.add(prefix + "ffn_up.weight", {96, 64});
    random.add(prefix + "ffn_down.weight", {64, 96});
  }
  return file;
}

TinyGguf tiny_gemma3_gguf(uint64_t seed) {
  TinyGguf file;
  file.architecture = "gemma3";
  file.integers = {{"embedding_length", 32},       {"block_count", 7},
                   {"feed_forward_length", 48},    {"attention.head_count", 2},
                   {"attention.head_count_kv", 1}, {"context_length", 512},
                   {"attention.key_length", 64},   {"attention.sliding_window", 16}};
  file.reals = {{"attention.layer_norm_rms_epsilon", 1e-6}, {"rope.freq_base", 1000000}};
  Randomiser random(file, seed);
  random.add("token_embd.weight", {kVocabulary, 32});
  random.add("output_norm.weight", {32});
  for (int layer = 0; layer < 7; ++layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    for (const char* norm : {"attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"})
      random.add(prefix + norm + ".weight", {32});
    random.add(prefix + "attn_q_norm.weight", {64});
    random.add(prefix + "attn_k_norm.weight", {64});
    random.add(prefix + "attn_q.weight", {128, 32});
    random.add(prefix + "attn_k.weight", {64, 32});
    random.add(prefix + "attn_v.weight", {64, 32});
    random.add(prefix + "attn_output.weight", {32, 128});
    random.add(prefix + "ffn_gate.weight", {48, 32});
    random.add(prefix + "ffn_up.weight", {48, 32});
    random.add(prefix + "ffn_down.weight", {32, 48});
  }
  return file;
}

}  // namespace mneme::testing
