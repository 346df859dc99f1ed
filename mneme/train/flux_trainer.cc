#include "mneme/train/flux_trainer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/optim/adamw.h>

#include <cmath>

#include "mneme/cache/policy/flux.h"
#include "mneme/core/error.h"
#include "mneme/io/safetensors.h"
#include "mneme/train/flux_schedule.h"
#include "mneme/train/mixed_attention.h"

namespace mneme::train {
namespace {

using at::Tensor;

std::vector<double> values_of(const Tensor& x) {
  const Tensor wide = x.detach().to(at::kDouble).contiguous();
  return {wide.const_data_ptr<double>(), wide.const_data_ptr<double>() + wide.numel()};
}

Tensor tensor_of(const std::vector<int64_t>& values) {
  return at::tensor(at::ArrayRef<int64_t>(values), at::kLong);
}

void check(const FluxTrainingOptions& o) {
  flux_streaming_window(o.sink, o.window, o.block);
  MNEME_CHECK(o.pool > 0, "router training: pool must be positive, got ", o.pool);
  MNEME_CHECK(o.steps > 0, "router training: steps must be positive, got ", o.steps);
  MNEME_CHECK(o.learning_rate > 0 && o.lambda_rate >= 0 && o.weight_decay >= 0 && o.clip > 0,
              "router training: rates and clip must be positive, got ", o.learning_rate, ", ",
              o.lambda_rate, ", ", o.weight_decay, " and ", o.clip);
  for (const double share : {o.warmup, o.target_warmup})
    MNEME_CHECK(share >= 0 && share <= 1,
                "router training: a warm-up is a share of the steps, got ", share);
}

}  // namespace

struct FluxTrainer::Batch {
  Tensor tokens;  // int64 [B, S], padded behind
  Tensor rows;    // int64 [answers] those whose next token counts, in B * S
  Tensor next;    // int64 [answers]
  Tensor sample;  // int64 [answers]
  Tensor tasks;   // int64 [B]
  std::vector<std::vector<RowSpan>> spans;  // [B]
};

struct FluxTrainer::Optimizers {
  torch::optim::AdamW routers, lambdas;

  static void set_rate(torch::optim::Optimizer& optimizer, double rate) {
    for (auto& group : optimizer.param_groups())
      static_cast<torch::optim::AdamWOptions&>(group.options()).lr(rate);
  }
};

FluxTrainer::FluxTrainer(const FrozenDecoder& model, std::vector<double> targets,
                         const FluxTrainingOptions& options)
    : model_(model), targets_(std::move(targets)), options_(options), rng_(options.seed) {
  check(options);
  MNEME_CHECK(!targets_.empty(), "router training: expected at least one task");
  for (const double target : targets_)
    MNEME_CHECK(target >= 0 && target <= 1, "router training: a sparsity is 0 to 1, got ", target);
  std::vector<Tensor> parameters;
  for (int64_t layer = 0; layer < model.config().layers; ++layer) {
    routers_.emplace_back(model.config().head_dim, options.softmax ? 2 : 1, options.full_bias,
                          rng_);
    for (const auto& [name, tensor] : routers_.back().parameters()) parameters.push_back(tensor);
  }
  for (Tensor* lambda : {&lambda1_, &lambda2_}) {
    *lambda = at::empty({std::ssize(targets_)}, at::kFloat);
    for (int64_t i = 0; i < lambda->numel(); ++i)
      lambda->data_ptr<float>()[i] = static_cast<float>(rng_.uniform() / 2);
    lambda->set_requires_grad(true);
  }
  const auto adamw = [&](double rate, double decay) {
    return torch::optim::AdamWOptions(rate).betas({0.9, 0.95}).weight_decay(decay);
  };
  optimizers_.reset(new Optimizers{
      torch::optim::AdamW(parameters, adamw(options.learning_rate, options.weight_decay)),
      torch::optim::AdamW(std::vector<Tensor>{lambda1_, lambda2_}, adamw(options.lambda_rate, 0))});
}

FluxTrainer::~FluxTrainer() = default;

FluxTrainer::Batch FluxTrainer::batch_of(std::span<const FluxSample> samples) const {
  MNEME_CHECK(!samples.empty(), "router training: a step needs samples");
  size_t longest = 0;
  for (const FluxSample& sample : samples) longest = std::max(longest, sample.tokens.size());
  const auto length = static_cast<int64_t>(longest);
  std::vector<int64_t> tokens, rows, next, owner, tasks;
  Batch batch;
  for (const FluxSample& sample : samples) {
    const auto b = std::ssize(tasks);
    MNEME_CHECK(sample.prompt > 0 && sample.prompt < std::ssize(sample.tokens), "sample ", b,
                ": the prompt is ", sample.prompt, " of ", sample.tokens.size(),
                " tokens, expected at least one and an answer");
    MNEME_CHECK(sample.task >= 0 && sample.task < std::ssize(targets_), "sample ", b, ": task ",
                sample.task, " of ", targets_.size());
    for (int64_t t = 0; t < length; ++t) {
      const bool real = t < std::ssize(sample.tokens);
      tokens.push_back(real ? sample.tokens[static_cast<size_t>(t)] : 0);
      if (!real || t < sample.prompt) continue;
      rows.push_back(b * length + t - 1);
      next.push_back(tokens.back());
      owner.push_back(b);
    }
    tasks.push_back(sample.task);
    batch.spans.push_back(flux_prompt_ends(sample.prompt, options_.pool));
  }
  batch.tokens = tensor_of(tokens).reshape({std::ssize(tasks), length});
  batch.rows = tensor_of(rows);
  batch.next = tensor_of(next);
  batch.sample = tensor_of(owner);
  batch.tasks = tensor_of(tasks);
  return batch;
}

Tensor FluxTrainer::run(const Batch& batch, double tau, Rng* noise, Tensor* language) const {
  const int64_t length = batch.tokens.size(1), samples = batch.tokens.size(0);
  const Tensor full = visible_mask(length, length, {});
  const Tensor streaming = visible_mask(
      length, length, flux_streaming_window(options_.sink, options_.window, options_.block));
  std::vector<Tensor> z;
  const auto attend = [&](int64_t layer, const Tensor& unrotated, const Tensor& q, const Tensor& k,
                          const Tensor& v) {
    const FluxRouter& router = routers_[static_cast<size_t>(layer)];
    const Tensor logits = router.logits(router.features(flux_pool(unrotated, batch.spans)));
    Tensor uniforms;
    if (noise != nullptr) {
      uniforms = at::empty_like(logits.detach());
      for (int64_t i = 0; i < uniforms.numel(); ++i)
        uniforms.data_ptr<float>()[i] = static_cast<float>(noise->uniform());
    }
    z.push_back(flux_route(logits, uniforms, tau).z);
    return mixed_attention(q, k, v, z.back(), full, streaming, model_.config().attention_scale);
  };
  const Tensor logits = model_.logits(batch.tokens, batch.rows, attend);
  const Tensor losses = logits.log_softmax(-1).gather(1, batch.next.unsqueeze(1)).squeeze(1).neg();
  const Tensor counts =
      at::zeros({samples}).index_add(0, batch.sample, at::ones({batch.sample.numel()}));
  *language = at::zeros({samples}).index_add(0, batch.sample, losses) / counts;
  return at::stack(z);
}

FluxStep FluxTrainer::step(std::span<const FluxSample> samples) {
  const Batch batch = batch_of(samples);
  FluxStep report{.step = done_, .tau = flux_temperature(done_, options_.steps)};
  Tensor language;
  const Tensor z = run(batch, report.tau, &rng_, &language);
  std::vector<float> now;
  for (const double target : targets_) {
    now.push_back(
        static_cast<float>(flux_target(done_, options_.steps, 0, target, options_.target_warmup)));
  }
  const Tensor targets =
      at::tensor(at::ArrayRef<float>(now), at::kFloat).index_select(0, batch.tasks);
  const SparsityLoss sparsity = flux_sparsity_loss(z, targets, batch.tasks, lambda1_, lambda2_);
  const Tensor loss = language.mean() + sparsity.loss;
  report.loss = loss.item<double>();
  MNEME_CHECK(std::isfinite(report.loss), "router training: the loss of step ", done_, " is ",
              report.loss);
  optimizers_->routers.zero_grad();
  optimizers_->lambdas.zero_grad();
  torch::autograd::backward({loss}, {});

  std::vector<Tensor> gradients;
  for (const FluxRouter& router : routers_)
    for (const auto& [name, tensor] : router.parameters()) gradients.push_back(tensor.grad());
  double squares = 0;
  for (const Tensor& gradient : gradients) squares += gradient.square().sum().item<double>();
  report.gradient_norm = std::sqrt(squares);
  if (report.gradient_norm > options_.clip) {
    for (Tensor& gradient : gradients) gradient.mul_(options_.clip / report.gradient_norm);
  }
  for (const Tensor* lambda : {&lambda1_, &lambda2_}) lambda->mutable_grad().neg_();  // ascent
  Optimizers::set_rate(
      optimizers_->routers,
      options_.learning_rate * warmup_cosine(done_, options_.steps, options_.warmup));
  optimizers_->routers.step();
  optimizers_->lambdas.step();
  {
    const at::NoGradGuard no_graph;
    lambda1_.clamp_min_(0);
    lambda2_.clamp_min_(0);
  }
  report.language_loss = language.mean().item<double>();
  report.sparsity_loss = sparsity.loss.item<double>();
  report.sparsity = values_of(sparsity.sparsity);
  report.language_losses = values_of(language);
  ++done_;
  return report;
}

FluxStep FluxTrainer::evaluate(std::span<const FluxSample> samples) const {
  const at::NoGradGuard no_graph;
  const Batch batch = batch_of(samples);
  Tensor language;
  const Tensor z = run(batch, 1, nullptr, &language);
  FluxStep report{.step = done_, .tau = 1};
  report.language_loss = report.loss = language.mean().item<double>();
  report.sparsity = values_of(1 - z.mean(0));
  report.language_losses = values_of(language);
  return report;
}

void FluxTrainer::save(const std::string& path) const {
  std::vector<TensorView> tensors;
  std::vector<Tensor> held;
  for (size_t layer = 0; layer < routers_.size(); ++layer) {
    for (const auto& [name, tensor] : routers_[layer].parameters()) {
      held.push_back(tensor.detach().contiguous());
      tensors.push_back({flux_router_prefix(static_cast<int64_t>(layer)) + name, DType::kF32,
                         held.back().sizes().vec(),
                         static_cast<const std::byte*>(held.back().const_data_ptr()),
                         static_cast<int64_t>(held.back().nbytes())});
    }
  }
  std::string targets;
  for (const double target : targets_) targets += concat(targets.empty() ? "" : " ", target);
  write_safetensors(path, tensors,
                    {{"format", "mneme-flux-routers-1"},
                     {"sink", std::to_string(options_.sink)},
                     {"window", std::to_string(options_.window)},
                     {"block", std::to_string(options_.block)},
                     {"pool", std::to_string(options_.pool)},
                     {"targets", targets},
                     {"steps", std::to_string(done_)},
                     {"seed", std::to_string(options_.seed)}});
}

std::string FluxTrainer::spec(const std::string& path) const {
  return concat("flux(routers=", path, ",sink=", options_.sink, ",window=", options_.window,
                ",block=", options_.block, ",pool=", options_.pool, ")");
}

}  // namespace mneme::train
