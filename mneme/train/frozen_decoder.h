// A llama decoder on at::Tensor whose weights are constants: gradients flow through it, none to it.
// What is trained beside it (routers) says how each layer attends. Batches of sequences of one
// length, each from position 0. Tests: frozen_decoder_test.cc (the engine's own logits).
//
// Queries come with dimensions in the order in which rotary pairs are the two halves, whatever the
// order of the file, as LayerStep::first_unrotated does.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "mneme/models/decoder.h"

namespace mneme::train {

class FrozenDecoder {
 public:
  // Of a layer: queries before rotary positions [B, S, H, D]; queries and keys after, values [B, H or
  // Hk, S, D] -> [B, H, S, D].
  using Attend =
      std::function<at::Tensor(int64_t layer, const at::Tensor& unrotated, const at::Tensor& q,
                               const at::Tensor& k, const at::Tensor& v)>;

  // Copies the model's weights, as float32 or bfloat16 (`type`; sums, norms and the residual stream
  // are float32 either way). Throws Error for models with anything llama has not.
  FrozenDecoder(const DecoderModel& model, at::ScalarType type);

  const ModelConfig& config() const { return config_; }

  // tokens int64 [B, S]; rows int64 [n], indices into [B * S] -> logits float32 [n, vocabulary].
  // Only the rows asked for pass the last feed-forward layer and the output layer.
  at::Tensor logits(const at::Tensor& tokens, const at::Tensor& rows, const Attend& attend) const;

 private:
  struct Layer {
    at::Tensor attention_norm, qkv, o, ffn_norm, gate_up, down;
  };
  at::Tensor linear(const at::Tensor& x, const at::Tensor& weight) const;
  at::Tensor norm(const at::Tensor& x, const at::Tensor& weight) const;

  ModelConfig config_;
  at::ScalarType type_;
  at::Tensor embedding_, output_norm_, output_, rope_factors_;
  std::vector<Layer> layers_;
};

}  // namespace mneme::train
