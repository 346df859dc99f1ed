// Training of Flux Attention's routers beside a frozen model (papers/22, sections 3.2 to 3.4): every
// layer runs mixed_attention() with the z of its router; the loss is the cross entropy of the answers
// plus the sparsity loss, whose weights for each task move up their gradient while the routers move
// down theirs (AdamW, warm-up and cosine, clipped). A run is a function of its seed, samples and
// number of threads. Tests: flux_trainer_test.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "mneme/train/flux_router.h"
#include "mneme/train/frozen_decoder.h"

namespace mneme::train {

struct FluxTrainingOptions {
  int64_t sink = 32, window = 128, block = 32, pool = 32;
  bool softmax = true;     // false: the sigmoid form
  double full_bias = 4.5;  // of the last layer at the start
  int64_t steps = 160;
  double learning_rate = 3e-3;
  double lambda_rate = 1e-3;  // of the loss's own weights
  double weight_decay = 0.1;
  double clip = 5;
  double warmup = 0.2;         // share of the steps in which the learning rate rises
  double target_warmup = 0.2;  // the same for the sparsity targets
  uint64_t seed = 1;
};

// A prompt and what should follow.
struct FluxSample {
  std::vector<int32_t> tokens;
  int64_t prompt = 0;  // tokens of it that are the prompt: at least 1, fewer than all
  int64_t task = 0;    // below the trainer's number of tasks
};

struct FluxStep {
  int64_t step = 0;
  double loss = 0, language_loss = 0, sparsity_loss = 0, gradient_norm = 0;
  double tau = 0;
  std::vector<double> sparsity;         // [samples]
  std::vector<double> language_losses;  // [samples]
};

class FluxTrainer {
 public:
  // targets: the sparsity each task is to come to, each 0 to 1. `model` outlives it. Throws Error
  // naming the option out of range.
  FluxTrainer(const FrozenDecoder& model, std::vector<double> targets,
              const FluxTrainingOptions& options);
  ~FluxTrainer();

  // One step on a batch. Throws Error on samples that do not fit, and on a loss that is not finite.
  FluxStep step(std::span<const FluxSample> samples);
  int64_t steps_done() const { return done_; }

  // The share of layers that stream for each sample, as the routers decide without noise, each layer
  // acting on its decision; and the cross entropy of each answer.
  FluxStep evaluate(std::span<const FluxSample> samples) const;

  const std::vector<FluxRouter>& routers() const { return routers_; }
  // Writes the routers with the names of the official state dict, and as metadata what the policy
  // must be told (sink, window, block, pool); atomically.
  void save(const std::string& path) const;
  // "flux(routers=PATH,sink=...)" that runs them.
  std::string spec(const std::string& path) const;

 private:
  struct Batch;
  struct Optimizers;
  Batch batch_of(std::span<const FluxSample> samples) const;
  // z of every layer [layers, B]; fills the cross entropy of each sample [B].
  at::Tensor run(const Batch& batch, double tau, Rng* noise, at::Tensor* language) const;

  const FrozenDecoder& model_;
  std::vector<double> targets_;
  FluxTrainingOptions options_;
  Rng rng_;
  std::vector<FluxRouter> routers_;  // [layers]
  at::Tensor lambda1_, lambda2_;     // [tasks]
  std::unique_ptr<Optimizers> optimizers_;
  int64_t done_ = 0;
};

}  // namespace mneme::train
