// A decoder-only transformer over quantised weights whose attention is whatever memory it is given.
// One forward pass serves prompts, single tokens and batches of sequences, each sequence with a
// memory of its own. llama.h and gemma3.h say which weights and details a family has; this file is
// the order in which they are used:
//
//   x = embedding[token] * embedding_scale               [T, hidden]
//   for each layer:
//     n = rms_norm(x);  q, k, v = n Wq, n Wk, n Wv         [T, heads, head_dim]
//     a = memory.attend(rope(norm(q)), rope(norm(k)), v)
//     x += post_norm(a Wo)
//     n = rms_norm(x);  x += post_norm((gate(n Wg) * (n Wu)) Wd)
//   logits = softcap(rms_norm(x) W_out)                    [rows asked for, vocabulary]
//
// A row's result does not depend on what else is in the step, so cold, forked, restored and batched
// runs give the same bits. Tests: decoder_test.cc (golden tiny-llama, chunked == one-shot, batched
// == single).
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "mneme/cache/memory.h"
#include "mneme/core/function_ref.h"
#include "mneme/core/tensor_view.h"
#include "mneme/core/thread_pool.h"
#include "mneme/models/config.h"
#include "mneme/models/decoder_weights.h"
#include "mneme/models/head_hooks.h"
#include "mneme/models/linear.h"

namespace mneme {

// The linear layers of one decoder layer, made from the weights of the same names.
struct LayerLinears {
  std::unique_ptr<Linear> q, k, v, o, gate, up, down;
};

// Makes the linear layer of one weight [out, in] of decoder layer `layer`.
using LinearMaker = FunctionRef<std::unique_ptr<Linear>(int64_t layer, const TensorView& weight)>;

// Which logits of a step are wanted.
enum class Logits { kNone, kLast, kAll };

// The part of one sequence in a step.
struct SequenceStep {
  std::span<const int32_t> tokens;  // at least one
  SequenceMemory* memory = nullptr;
  Logits logits = Logits::kLast;
  int64_t following = 0;  // tokens of the same text that later steps will bring
};

class DecoderModel {
 public:
  // `source` holds the weights and is kept alive. Throws Error on a bad configuration.
  DecoderModel(ModelConfig config, DecoderWeights weights,
               std::shared_ptr<const TensorSource> source);

  const ModelConfig& config() const { return config_; }
  const MemoryShape& memory_shape() const { return shape_; }
  const TensorSource& source() const { return *source_; }
  const DecoderWeights& weights() const { return weights_; }

  // Replaces the linear layers of every decoder layer (stored_linear, to begin with), one after the
  // other, and gives back the memory of tensors that are no longer read. Embedding, output and
  // norms stay as they are. `form` says what they are now: it becomes part of the model's
  // fingerprint. When `make` throws, the model must not be used any more.
  void set_linears(LinearMaker make, std::string form);
  // Every weight, the output layer's too, as stored_linear() (form "file"): what a model begins with.
  void use_stored_weights(ThreadPool& pool);
  // Multiplies every weight in float32 from its file form (form "float"): slower, without the
  // rounding of the activations to 16 bits that packed_matmul.h does.
  void use_float_products();
  // "file" to begin with, or what set_linears() was told.
  const std::string& linear_form() const { return linear_form_; }

  // Bytes of all weights, in the form in which they lie in memory.
  int64_t weight_bytes() const;
  // Those of the linear layers of all decoder layers alone.
  int64_t linear_bytes() const;
  // Bytes of activations and scratch that a step of `tokens` positions with `logit_rows` rows of
  // logits needs.
  int64_t workspace_bytes(int64_t tokens, int64_t logit_rows) const;

  // What sees and may change the heads of every layer from now on (null: nothing does); kept alive
  // by the caller. An exception it throws ends the step like one of a memory.
  void set_head_hooks(HeadHooks* hooks) { head_hooks_ = hooks; }
  HeadHooks* head_hooks() const { return head_hooks_; }

  // Runs one step of one or more sequences (distinct memories). Memories of the model's first layers
  // only, as many in each, stop it after those: no logits are there to ask for. Returns the logits, in
  // the order of the sequences, [rows, vocabulary], valid until the next call. Throws Error when a
  // token id, a memory or a plan is bad; every memory is then as it was before.
  std::span<const float> forward(std::span<const SequenceStep> steps, ThreadPool& pool);

 private:
  // Returns how many layers the step runs.
  int64_t check(std::span<const SequenceStep> steps) const;
  void set_output(std::unique_ptr<Linear> output);
  // Whether a layer's rotary positions are those of layers with a window.
  bool has_window_rope(int64_t layer) const {
    return config_.rope_base_window != 0 && config_.windows[static_cast<size_t>(layer)] > 0;
  }
  void embed(int32_t token, float* out) const;
  void for_each_linear(
      FunctionRef<void(const Linear& linear, const TensorView& weight)> visit) const;
  void prepare(std::span<const SequenceStep> steps, int64_t tokens, int64_t logit_rows);
  // Each block reads its normed input from normed_ and leaves that of the next block there.
  void attention(int64_t layer, std::span<const SequenceStep> steps, int64_t tokens,
                 ThreadPool& pool);
  void feed_forward(int64_t layer, int64_t tokens, ThreadPool& pool);
  // Copies the queries that the plans ask for as they are before rotary positions, pairs as halves.
  void keep_unrotated(const LayerWeights& weights, std::span<const SequenceStep> steps);

  ModelConfig config_;
  DecoderWeights weights_;
  std::shared_ptr<const TensorSource> source_;
  std::vector<LayerLinears> linears_;  // [layers]
  std::string linear_form_;
  std::unique_ptr<Linear> output_;
  int64_t released_bytes_ = 0, released_output_bytes_ = 0;  // of tensors of the source
  MemoryShape shape_;
  std::vector<float> rope_factors_;
  HeadHooks* head_hooks_ = nullptr;

  // Activations of the step, grown to the largest step so far.
  std::vector<float> x_;          // [T, hidden]
  std::vector<float> normed_;     // [T, hidden]
  std::vector<float> q_;          // [T, q_heads * head_dim]
  std::vector<float> k_, v_;      // [T, kv_heads * head_dim]
  std::vector<float> unrotated_;  // for each sequence [2, unrotated rows, q_heads * head_dim]
  std::vector<float> mixed_;      // [T, q_heads * head_dim]
  std::vector<float> gate_, up_;  // [T, ffn]
  std::vector<float> logits_;     // [rows, vocabulary]
  std::vector<int64_t> unrotated_rows_;  // [sequences] of the step's plans
  // Rotary tables of the step's positions, for layers without and with a window.
  std::vector<float> cosines_, sines_, window_cosines_, window_sines_;  // [T, head_dim / 2]
};

}  // namespace mneme
