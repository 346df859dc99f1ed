// The router of cache/policy/flux_router.h on at::Tensor, with gradients: how Flux Attention
// (papers/22, section 3.2) trains it. Noise goes in from outside, so that a run is a function of its
// seed.
//
//   g = -log(-log(U + 1e-8) + 1e-8)
//   softmax form   s = softmax((l + g) / tau)[1], hard = 1 where the noisy l[1] > l[0]
//   sigmoid form   s = sigmoid((l + g) / tau),    hard = 1 where s > 1/2
//   z = hard + s - stopgrad(s)
//
// Tests: flux_training_test.cc (golden 22, gradients).
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "mneme/cache/policy/flux_router.h"
#include "mneme/core/rng.h"

namespace mneme::train {

class FluxRouter {
 public:
  // As the official code begins: the head's inner layers Kaiming-uniform (a = sqrt 5) with zero
  // biases, its last one zero with biases (0, full_bias), so that every layer is full to begin with;
  // the features' layers as torch makes linears. outputs: 2 (softmax) or 1 (sigmoid).
  FluxRouter(int64_t head_dim, int64_t outputs, double full_bias, Rng& rng);
  // weights [out, in] and biases [out] of the five linears.
  FluxRouter(std::vector<at::Tensor> weights, std::vector<at::Tensor> biases);

  // u [B, D] -> f [B, 2D] -> l [B, outputs].
  at::Tensor features(const at::Tensor& pooled) const;
  at::Tensor logits(const at::Tensor& features) const;

  // Weights and biases by their names in a state dict.
  std::vector<std::pair<std::string, at::Tensor>> parameters() const;

 private:
  at::Tensor apply(size_t first, size_t end, at::Tensor x) const;
  std::vector<at::Tensor> weights_, biases_;  // [kFluxLinears]
};

// u [B, D] of q [B, S, H, D]: for each sample the mean over the rows of its spans (papers/22, 3.1).
at::Tensor flux_pool(const at::Tensor& q, const std::vector<std::vector<RowSpan>>& spans);

struct Routing {
  at::Tensor soft;  // [B] s
  at::Tensor hard;  // [B] 0 or 1, without gradient
  at::Tensor z;     // [B] the value of hard, the gradient of soft
};
// logits [B, 1 or 2]; uniforms like logits, undefined: no noise and no temperature.
Routing flux_route(const at::Tensor& logits, const at::Tensor& uniforms, double tau);

struct SparsityLoss {
  at::Tensor loss;        // scalar
  at::Tensor sparsity;    // [B] share of layers that stream
  at::Tensor per_sample;  // [B] what the samples add before means are taken
};
// z [layers, B], targets [B], tasks int64 [B]; lambda1, lambda2 [tasks] or undefined:
//   d = sparsity - target;   mean over tasks present of mean over samples of lambda1 |d| + lambda2 d^2
// and without lambdas the mean of |d|. The lambdas are to be moved up their gradient.
SparsityLoss flux_sparsity_loss(const at::Tensor& z, const at::Tensor& targets,
                                const at::Tensor& tasks, const at::Tensor& lambda1,
                                const at::Tensor& lambda2);

}  // namespace mneme::train
