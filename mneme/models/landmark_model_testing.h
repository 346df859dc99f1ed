// The small model of golden landmark cases: GPT-2 like, without biases, in float32 with sums in
// float64. Its attention is a memory, as a DecoderModel's is.
//
//   x = wte[token];  for each layer: x += proj(memory(c_attn(ln_1(x)))), x += c_proj(gelu(c_fc(ln_2(x))))
//   logits = ln_f(x) lm_head^T
#pragma once

#include <cmath>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "mneme/cache/memory.h"
#include "tests/support/golden.h"

namespace mneme::testing {

class LandmarkModel {
 public:
  // Parameters "param.<official name>" and the config of a case.
  explicit LandmarkModel(const GoldenCase& golden)
      : width_(golden.config().at("n_embd")),
        heads_(golden.config().at("n_head")),
        layers_(golden.config().at("n_layer")),
        vocabulary_(golden.config().at("vocab_size")),
        base_(golden.config().at("rope_theta")),
        interleaved_(golden.config().at("rope_pairs") == "interleaved") {
    for (const std::string& part : golden.parts())
      if (part.starts_with("param.")) weights_[part.substr(6)] = golden.floats(part);
  }

  int64_t vocabulary() const { return vocabulary_; }

  MemoryShape memory_shape() const {
    const RotaryPositions rotary{
        .pairs = interleaved_ ? RopePairs::kInterleaved : RopePairs::kHalves, .base = base_};
    const auto layers = static_cast<size_t>(layers_);
    return {.q_heads = heads_,
            .kv_heads = heads_,
            .k_dim = width_ / heads_,
            .v_dim = width_ / heads_,
            .context = 1 << 20,
            .windows = std::vector<int64_t>(layers, 0),
            .rotary = std::vector<RotaryPositions>(layers, rotary),
            .model_fingerprint = ""};
  }

  // One step; logits [tokens, vocabulary], valid until the next.
  std::span<const float> forward(std::span<const int32_t> tokens, SequenceMemory& memory,
                                 ThreadPool& pool) {
    const auto count = static_cast<int64_t>(tokens.size());
    const std::vector<float>& head = weights_.at("lm_head.weight");  // tied to wte
    std::vector<float> x;
    for (const int32_t token : tokens)
      x.insert(x.end(), head.begin() + token * width_, head.begin() + (token + 1) * width_);
    memory.begin(memory.plan(count));
    for (int64_t layer = 0; layer < layers_; ++layer) {
      const std::string name = "transformer.h." + std::to_string(layer) + ".";
      const std::vector<float> qkv = linear(norm(x, name + "ln_1"), name + "attn.c_attn");
      std::vector<float> parts[3];
      for (int64_t t = 0; t < count; ++t) {
        for (int64_t part = 0; part < 3; ++part) {
          const auto from = qkv.begin() + (3 * t + part) * width_;
          parts[part].insert(parts[part].end(), from, from + width_);
        }
      }
      std::vector<float> mixed(x.size());
      memory.attend({.layer = layer,
                     .q = parts[0].data(),
                     .k = parts[1].data(),
                     .v = parts[2].data(),
                     .scale = 1 / std::sqrt(static_cast<float>(width_ / heads_)),
                     .out = mixed.data()},
                    pool);
      add(x, linear(mixed, name + "attn.c_proj"));
      std::vector<float> inner = linear(norm(x, name + "ln_2"), name + "mlp.c_fc");
      for (float& value : inner)
        value = static_cast<float>(0.5 * value * (1 + std::erf(value / std::sqrt(2.0))));
      add(x, linear(inner, name + "mlp.c_proj"));
    }
    memory.commit();
    logits_ = linear(norm(x, "transformer.ln_f"), "lm_head");
    return logits_;
  }

 private:
  static void add(std::vector<float>& x, const std::vector<float>& y) {
    for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
  }

  std::vector<float> norm(const std::vector<float>& x, const std::string& name) const {
    const std::vector<float>& weight = weights_.at(name + ".weight");
    std::vector<float> y(x.size());
    const auto n = static_cast<size_t>(width_);
    for (size_t at = 0; at < x.size(); at += n) {
      double mean = 0, square = 0;
      for (size_t i = 0; i < n; ++i) mean += x[at + i];
      mean /= static_cast<double>(n);
      for (size_t i = 0; i < n; ++i) square += (x[at + i] - mean) * (x[at + i] - mean);
      const double scale = 1 / std::sqrt(square / static_cast<double>(n) + 1e-5);
      for (size_t i = 0; i < n; ++i)
        y[at + i] = static_cast<float>((x[at + i] - mean) * scale * weight[i]);
    }
    return y;
  }

  // x [rows, in] times weight [out, in].
  std::vector<float> linear(const std::vector<float>& x, const std::string& name) const {
    const std::vector<float>& weight = weights_.at(name + ".weight");
    const size_t in = name.ends_with("mlp.c_proj") ? static_cast<size_t>(4 * width_)
                                                   : static_cast<size_t>(width_);
    const size_t out = weight.size() / in;
    std::vector<float> y;
    for (size_t at = 0; at < x.size(); at += in) {
      for (size_t o = 0; o < out; ++o) {
        double sum = 0;
        for (size_t i = 0; i < in; ++i) sum += double{x[at + i]} * weight[o * in + i];
        y.push_back(static_cast<float>(sum));
      }
    }
    return y;
  }

  int64_t width_, heads_, layers_, vocabulary_;
  double base_;
  bool interleaved_;
  std::map<std::string, std::vector<float>> weights_;
  std::vector<float> logits_;
};

}  // namespace mneme::testing
