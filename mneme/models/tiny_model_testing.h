// Small models for tests: one with seeded random weights, and the ones golden files carry.
#pragma once

#include <cmath>
#include <deque>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "mneme/core/rng.h"
#include "mneme/models/decoder.h"
#include "mneme/models/llama.h"
#include "tests/support/golden.h"

namespace mneme::testing {

// Float32 tensors that live in this object.
class OwnedTensors final : public TensorSource {
 public:
  void add(const std::string& name, std::vector<int64_t> shape, std::vector<float> values) {
    storage_.push_back(std::move(values));
    const std::vector<float>& held = storage_.back();
    tensors_.push_back({name, DType::kF32, std::move(shape),
                        reinterpret_cast<const std::byte*>(held.data()),
                        static_cast<int64_t>(held.size() * sizeof(float))});
  }
  void remove(const std::string& name) {
    std::erase_if(tensors_, [&](const TensorView& tensor) { return tensor.name == name; });
  }
  const TensorView* find(std::string_view name) const override {
    for (const TensorView& tensor : tensors_) {
      if (tensor.name == name) return &tensor;
    }
    return nullptr;
  }
  const std::vector<TensorView>& tensors() const override { return tensors_; }
  const std::string& origin() const override { return origin_; }

 private:
  std::deque<std::vector<float>> storage_;
  std::vector<TensorView> tensors_;
  std::string origin_ = "test tensors";
};

inline const char* tiny_config() {
  return R"({"vocab_size": 50, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 256, "rope_theta": 10000.0, "rms_norm_eps": 1e-5})";
}

inline std::shared_ptr<OwnedTensors> tiny_tensors(uint64_t seed) {
  auto tensors = std::make_shared<OwnedTensors>();
  Rng rng(seed);
  const auto random = [&](const std::string& name, std::vector<int64_t> shape) {
    int64_t elements = 1;
    for (const int64_t extent : shape) elements *= extent;
    std::vector<float> values(static_cast<size_t>(elements));
    const double spread =
        shape.size() == 1 ? 0.1 : 1.0 / std::sqrt(static_cast<double>(shape.back()));
    for (float& value : values)
      value = static_cast<float>((shape.size() == 1 ? 1.0 : 0.0) + spread * rng.normal());
    tensors->add(name, std::move(shape), std::move(values));
  };
  random("model.embed_tokens.weight", {50, 64});
  random("model.norm.weight", {64});
  random("lm_head.weight", {50, 64});
  for (int layer = 0; layer < 2; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    random(prefix + "input_layernorm.weight", {64});
    random(prefix + "self_attn.q_proj.weight", {128, 64});
    random(prefix + "self_attn.k_proj.weight", {64, 64});
    random(prefix + "self_attn.v_proj.weight", {64, 64});
    random(prefix + "self_attn.o_proj.weight", {64, 128});
    random(prefix + "post_attention_layernorm.weight", {64});
    random(prefix + "mlp.gate_proj.weight", {96, 64});
    random(prefix + "mlp.up_proj.weight", {96, 64});
    random(prefix + "mlp.down_proj.weight", {64, 96});
  }
  return tensors;
}

// Two layers, 4 query and 2 KV heads of 32, vocabulary 50, context 256.
class TinyModel {
 public:
  explicit TinyModel(uint64_t seed = 7)
      : model_(load_llama_state_dict(tiny_config(), tiny_tensors(seed))) {}
  DecoderModel& model() { return *model_; }
  std::vector<int32_t> tokens(int64_t count, uint64_t seed = 3) const {
    Rng rng(seed);
    std::vector<int32_t> ids(static_cast<size_t>(count));
    for (int32_t& id : ids) id = static_cast<int32_t>(rng.below(50));
    return ids;
  }

 private:
  std::unique_ptr<DecoderModel> model_;
};

// The llama model of a golden case: parameters "param.<state-dict name>", configuration in the
// case's config, by the names of a config.json or by short ones ("layers", "heads").
inline std::unique_ptr<DecoderModel> golden_llama(const GoldenCase& golden) {
  auto tensors = std::make_shared<OwnedTensors>();
  for (const std::string& part : golden.parts()) {
    if (part.starts_with("param."))
      tensors->add(part.substr(6), golden.shape(part), golden.floats(part));
  }
  nlohmann::json config = golden.config();
  const std::map<std::string, std::string> names = {{"vocab", "vocab_size"},
                                                    {"hidden", "hidden_size"},
                                                    {"layers", "num_hidden_layers"},
                                                    {"heads", "num_attention_heads"},
                                                    {"kv_heads", "num_key_value_heads"},
                                                    {"intermediate", "intermediate_size"}};
  for (const auto& [name, full] : names)
    if (config.contains(name)) config[full] = config[name];
  if (!config.contains("max_position_embeddings")) config["max_position_embeddings"] = 4096;
  return load_llama_state_dict(config.dump(), std::move(tensors));
}

}  // namespace mneme::testing
