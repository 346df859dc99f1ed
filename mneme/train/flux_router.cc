#include "mneme/train/flux_router.h"

#include <ATen/ATen.h>

#include <cmath>

#include "mneme/core/error.h"

namespace mneme::train {
namespace {

using at::Tensor;

constexpr size_t kFeatureLinears = 2;

// Uniform in [-bound, bound].
Tensor uniform(at::IntArrayRef shape, double bound, Rng& rng) {
  Tensor values = at::empty(shape, at::kFloat);
  float* out = values.data_ptr<float>();
  for (int64_t i = 0; i < values.numel(); ++i)
    out[i] = static_cast<float>(bound * (2 * rng.uniform() - 1));
  return values;
}

}  // namespace

FluxRouter::FluxRouter(int64_t head_dim, int64_t outputs, double full_bias, Rng& rng) {
  MNEME_CHECK(head_dim > 0, "flux router: head_dim must be positive, got ", head_dim);
  MNEME_CHECK(outputs == 1 || outputs == 2, "flux router: expected 1 or 2 outputs, got ", outputs);
  const int64_t d = head_dim;
  const int64_t sizes[kFluxLinears][2] = {
      {d, 8 * d}, {8 * d, 2 * d}, {2 * d, 4 * d}, {4 * d, d}, {d, outputs}};
  for (size_t i = 0; i < kFluxLinears; ++i) {
    const auto [in, out] = sizes[i];
    // Kaiming-uniform with a = sqrt 5 is uniform within 1 / sqrt(in).
    const double bound = 1 / std::sqrt(static_cast<double>(in));
    const bool last = i + 1 == kFluxLinears;
    weights_.push_back(last ? at::zeros({out, in}) : uniform({out, in}, bound, rng));
    biases_.push_back(i < kFeatureLinears ? uniform({out}, bound, rng) : at::zeros({out}));
  }
  biases_.back().select(0, outputs - 1).fill_(full_bias);
  for (size_t i = 0; i < kFluxLinears; ++i)
    weights_[i].set_requires_grad(true), biases_[i].set_requires_grad(true);
}

FluxRouter::FluxRouter(std::vector<Tensor> weights, std::vector<Tensor> biases)
    : weights_(std::move(weights)), biases_(std::move(biases)) {
  MNEME_CHECK(weights_.size() == kFluxLinears && biases_.size() == kFluxLinears,
              "flux router: expected ", kFluxLinears, " weights and biases, got ", weights_.size(),
              " and ", biases_.size());
}

Tensor FluxRouter::apply(size_t first, size_t end, Tensor x) const {
  for (size_t i = first; i < end; ++i) {
    x = at::linear(x, weights_[i], biases_[i]);
    if (i + 1 < end) x = at::silu(x);
  }
  return x;
}

Tensor FluxRouter::features(const Tensor& pooled) const {
  return apply(0, kFeatureLinears, pooled);
}
Tensor FluxRouter::logits(const Tensor& features) const {
  return apply(kFeatureLinears, kFluxLinears, features);
}

std::vector<std::pair<std::string, Tensor>> FluxRouter::parameters() const {
  std::vector<std::pair<std::string, Tensor>> all;
  for (size_t i = 0; i < kFluxLinears; ++i) {
    const std::string& name = flux_linear_name(static_cast<int64_t>(i));
    all.emplace_back(name + ".weight", weights_[i]);
    all.emplace_back(name + ".bias", biases_[i]);
  }
  return all;
}

Tensor flux_pool(const Tensor& q, const std::vector<std::vector<RowSpan>>& spans) {
  MNEME_CHECK(q.dim() == 4 && q.size(0) == std::ssize(spans), "flux_pool: expected queries [",
              spans.size(), ", S, H, D], got ", q.sizes());
  // How often each row counts, as a share: pooling is then one product.
  Tensor shares = at::zeros({q.size(0), 1, q.size(1)}, at::kFloat);
  float* out = shares.data_ptr<float>();
  for (const auto& sample : spans) {
    int64_t rows = 0;
    for (const RowSpan& span : sample) rows += std::max<int64_t>(0, span.end - span.begin);
    for (const RowSpan& span : sample) {
      MNEME_CHECK(span.begin >= 0 && span.end <= q.size(1), "flux_pool: rows ", span.begin, " to ",
                  span.end, " of ", q.size(1));
      for (int64_t row = span.begin; row < span.end; ++row)
        out[row] += 1 / static_cast<float>(rows);
    }
    out += q.size(1);
  }
  return shares.to(q.scalar_type()).matmul(q.mean(2)).squeeze(1);
}

Routing flux_route(const Tensor& logits, const Tensor& uniforms, double tau) {
  MNEME_CHECK(logits.dim() == 2 && (logits.size(1) == 1 || logits.size(1) == 2),
              "flux_route: expected logits [B, 1 or 2], got ", logits.sizes());
  MNEME_CHECK(tau > 0, "flux_route: the temperature must be positive, got ", tau);
  Tensor noisy = logits;
  if (uniforms.defined()) {
    const Tensor gumbel = (uniforms + 1e-8).log().neg().add(1e-8).log().neg();
    noisy = (logits + gumbel) / tau;
  }
  Routing routing;
  routing.soft =
      logits.size(1) == 2 ? noisy.softmax(-1).select(1, 1) : noisy.select(1, 0).sigmoid();
  const Tensor hard =
      logits.size(1) == 2 ? noisy.select(1, 1).gt(noisy.select(1, 0)) : routing.soft.gt(0.5);
  routing.hard = hard.to(logits.scalar_type());
  // (s - s) is exactly 0, hard + (s - s) exactly hard.
  routing.z = routing.hard + (routing.soft - routing.soft.detach());
  return routing;
}

SparsityLoss flux_sparsity_loss(const Tensor& z, const Tensor& targets, const Tensor& tasks,
                                const Tensor& lambda1, const Tensor& lambda2) {
  MNEME_CHECK(z.dim() == 2 && targets.dim() == 1 && targets.size(0) == z.size(1),
              "flux_sparsity_loss: expected z [layers, B] and targets [B], got ", z.sizes(),
              " and ", targets.sizes());
  SparsityLoss result;
  result.sparsity = 1 - z.mean(0);
  const Tensor away = result.sparsity - targets;
  if (!lambda1.defined()) {
    result.per_sample = away.abs();
    result.loss = result.per_sample.mean();
    return result;
  }
  MNEME_CHECK(tasks.defined() && tasks.sizes() == targets.sizes(),
              "flux_sparsity_loss: expected one task for each sample");
  result.per_sample =
      lambda1.index_select(0, tasks) * away.abs() + lambda2.index_select(0, tasks) * away.square();
  const Tensor sums = at::zeros_like(lambda1).index_add(0, tasks, result.per_sample);
  const Tensor counts = at::zeros_like(lambda1.detach())
                            .index_add(0, tasks, at::ones_like(result.per_sample.detach()));
  result.loss = (sums / counts.clamp_min(1)).sum() / counts.gt(0).sum();
  return result;
}

}  // namespace mneme::train
