// The parts of router training against the golden file: router with noise and gradients, loss,
// schedules, mixed attention.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "mneme/cache/policy/flux.h"
#include "mneme/train/flux_router.h"
#include "mneme/train/flux_schedule.h"
#include "mneme/train/mixed_attention.h"
#include "tests/support/golden.h"

namespace mneme::train {
namespace {

using at::Tensor;
using testing::GoldenCase;
using testing::GoldenFile;

Tensor input(const GoldenCase& golden, const std::string& part, bool wide = false) {
  const std::vector<int64_t>& shape = golden.shape(part);
  if (wide) {
    const std::vector<double> values = golden.doubles(part);
    return at::tensor(at::ArrayRef<double>(values), at::kDouble).reshape(shape);
  }
  const std::vector<float> values = golden.floats(part);
  return at::tensor(at::ArrayRef<float>(values), at::kFloat).reshape(shape);
}

void expect(const GoldenCase& golden, const Tensor& got, const std::string& part) {
  ASSERT_TRUE(golden.has(part)) << golden.name() << "/" << part;
  const Tensor want = golden.name() == "loss" || golden.name() == "schedules"
                          ? input(golden, part, true)
                          : input(golden, part).to(at::kDouble);
  ASSERT_EQ(got.numel(), want.numel()) << golden.name() << "/" << part;
  const Tensor excess = (got.detach().to(at::kDouble).reshape(want.sizes()) - want).abs() -
                        (golden.abs_tolerance() + golden.rel_tolerance() * want.abs());
  EXPECT_LE(excess.max().item<double>(), 0) << golden.name() << "/" << part;
}

std::vector<std::vector<RowSpan>> spans_of(const GoldenCase& golden) {
  const auto& c = golden.config();
  const int64_t pool = c["pool_size"], rows = c["S"], batch = c["B"];
  if (!golden.has("in.range_ids"))
    return std::vector(static_cast<size_t>(batch), flux_prompt_ends(rows, pool));
  const auto ranges = golden.integers("in.range_ids");
  const std::string mode = c["pooling_mode"];
  std::vector<std::vector<RowSpan>> spans;
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t* r = ranges.data() + 8 * b;
    const int64_t begin = mode == "first_token" ? r[0] : r[mode == "q" ? 4 : 2], end = r[5] + 1;
    spans.push_back({{begin, std::min(begin + pool, rows)}});
    if (mode != "first_token") spans.back().push_back({std::max<int64_t>(0, end - pool), end});
  }
  return spans;
}

void check_router(const GoldenCase& golden) {
  std::vector<Tensor> weights, biases;
  for (int64_t i = 0; i < kFluxLinears; ++i) {
    const std::string name = "param." + flux_linear_name(i);
    weights.push_back(input(golden, name + ".weight").set_requires_grad(true));
    biases.push_back(input(golden, name + ".bias").set_requires_grad(true));
  }
  const FluxRouter router(weights, biases);
  const Tensor q = input(golden, "in.q").set_requires_grad(true);
  const Tensor features = router.features(flux_pool(q, spans_of(golden)));
  const Tensor logits = router.logits(features);
  Tensor uniforms;
  if (golden.has("in.u")) uniforms = input(golden, "in.u");
  const double tau = golden.has("in.tau") ? golden.floats("in.tau")[0] : 1;
  const Routing routing = flux_route(logits, uniforms, tau);
  expect(golden, logits, "out.logits");
  expect(golden, routing.soft, "out.z_soft");
  expect(golden, routing.z, "out.z");
  if (golden.has("out.pooled")) expect(golden, features, "out.pooled");
  if (golden.has("out.z_hard")) expect(golden, routing.hard, "out.z_hard");
  if (!golden.has("grad.q")) return;
  const Tensor loss = (routing.z * at::arange(1, routing.z.size(0) + 1)).sum();  // as the case says
  expect(golden, loss, "out.loss");
  torch::autograd::backward({loss}, {});
  expect(golden, q.grad(), "grad.q");
  for (const auto& [name, tensor] : router.parameters())
    expect(golden, tensor.grad(), "grad." + name);
}

void check_loss(const GoldenCase& golden) {
  const Tensor z = input(golden, "in.z", true).set_requires_grad(true);
  Tensor lambdas[2];
  for (int i = 0; i < 2; ++i) {
    lambdas[i] = input(golden, "param.sparsity_lambda" + std::to_string(i + 1) + "_task", true)
                     .set_requires_grad(true);
  }
  const auto tasks = golden.integers("in.task_ids");
  const SparsityLoss got = flux_sparsity_loss(z, input(golden, "in.target", true),
                                              at::tensor(at::ArrayRef<int64_t>(tasks), at::kLong),
                                              lambdas[0], lambdas[1]);
  expect(golden, got.loss, "out.loss");
  expect(golden, got.sparsity, "out.model_sparsity");
  expect(golden, got.per_sample, "out.per_sample");
  torch::autograd::backward({got.loss}, {});
  expect(golden, z.grad(), "grad.z");
  expect(golden, lambdas[0].grad(), "grad.sparsity_lambda1_task");
  expect(golden, lambdas[1].grad(), "grad.sparsity_lambda2_task");
}

void check_schedules(const GoldenCase& golden) {
  const auto& c = golden.config();
  const int64_t steps = c["max_steps"];
  std::vector<double> taus, targets;
  for (const int64_t step : golden.integers("in.step")) {
    taus.push_back(flux_temperature(step, steps, c["tau_max"], c["tau_min"], c["decay_fraction"]));
    targets.push_back(flux_target(step, steps, c["start"], c["end"], c["sparsity_warmup_ratio"]));
  }
  expect(golden, at::tensor(at::ArrayRef<double>(taus), at::kDouble), "out.tau");
  expect(golden, at::tensor(at::ArrayRef<double>(targets), at::kDouble), "out.target");
}

void check_attention(const GoldenCase& golden) {
  const auto& c = golden.config();
  const int64_t block = c["block"], queries = c["Sq"], keys = c["Sk"];
  const RowWindow window = flux_streaming_window(c["sink_blocks"].get<int64_t>() * block,
                                                 c["local_blocks"].get<int64_t>() * block, block);
  const Tensor full = visible_mask(queries, keys, {}),
               streaming = visible_mask(queries, keys, window),
               triangle = visible_mask(queries, keys, window, c["triangle_n_last"]);
  const Tensor q = input(golden, "in.q"), k = input(golden, "in.k"), v = input(golden, "in.v");
  const double scale = 1 / std::sqrt(c["D"].get<double>());
  const auto sees = golden.integers("out.mask");
  EXPECT_TRUE(at::tensor(at::ArrayRef<int64_t>(sees), at::kLong)
                  .to(at::kBool)
                  .reshape({queries, keys})
                  .equal(streaming));
  expect(golden, masked_attention(q, k, v, full, scale), "out.full");
  expect(golden, masked_attention(q, k, v, streaming, scale), "out.streaming");
  expect(golden, masked_attention(q, k, v, triangle, scale), "out.triangle");
  expect(golden, mixed_attention(q, k, v, input(golden, "in.z"), full, streaming, scale),
         "out.mixed");
}

TEST(GoldenFluxTraining, EveryPartIsTheOfficialOne) {
  const auto file = GoldenFile::open("22-flux-attention");
  if (file == nullptr) GTEST_SKIP();
  for (const GoldenCase& golden : file->cases()) {
    if (golden.kind() == "router") check_router(golden);
    if (golden.kind() == "loss") check_loss(golden);
    if (golden.kind() == "schedules") check_schedules(golden);
    if (golden.kind() == "attn") check_attention(golden);
  }
  EXPECT_GE(file->cases().size(), 4u);
}

// Where z is 0 or 1, one branch runs without a graph: values and gradients are those of the formula.
TEST(MixedAttention, HardDecisionsHaveTheGradientsOfTheFormula) {
  at::manual_seed(1);
  const Tensor full = visible_mask(60, 60, {}),
               streaming = visible_mask(60, 60, flux_streaming_window(8, 16, 8));
  const auto random = [](at::IntArrayRef shape) { return at::randn(shape, at::kDouble); };
  const Tensor q = random({3, 4, 60, 16}), k = random({3, 2, 60, 16}), v = random({3, 2, 60, 16});
  const Tensor out = random({3, 4, 60, 16});
  std::vector<Tensor> values, gradients[2];
  for (const bool formula : {false, true}) {
    std::vector<Tensor> inputs;
    for (const Tensor& x : {q, k, v, at::tensor({1.0, 0.0, 1.0}, at::kDouble)})
      inputs.push_back(x.clone().set_requires_grad(true));
    const Tensor z = inputs[3].reshape({-1, 1, 1, 1});
    const Tensor o =
        formula
            ? z * masked_attention(inputs[0], inputs[1], inputs[2], full, 0.25) +
                  (1 - z) * masked_attention(inputs[0], inputs[1], inputs[2], streaming, 0.25)
            : mixed_attention(inputs[0], inputs[1], inputs[2], inputs[3], full, streaming, 0.25);
    values.push_back(o);
    gradients[formula] = torch::autograd::grad({o}, inputs, {out});
  }
  EXPECT_LT((values[0] - values[1]).abs().max().item<double>(), 1e-12);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_LT((gradients[0][i] - gradients[1][i]).abs().max().item<double>(), 1e-11) << i;
    EXPECT_GT(gradients[1][i].abs().max().item<double>(), 0.1) << i;
  }
}

TEST(FluxSparsityLoss, WithoutTasksIsTheMeanDistance) {
  const Tensor z = at::tensor({1.0, 0.0, 1.0, 1.0}, at::kDouble).reshape({2, 2});  // [layers, B]
  const SparsityLoss got = flux_sparsity_loss(z, at::tensor({0.25, 0.25}, at::kDouble), {}, {}, {});
  EXPECT_DOUBLE_EQ(got.loss.item<double>(), (0.25 + 0.25) / 2);
}

TEST(FluxSchedule, LearningRateRisesAndFalls) {
  EXPECT_DOUBLE_EQ(warmup_cosine(0, 10, 0.2), 0.5);
  EXPECT_DOUBLE_EQ(warmup_cosine(1, 10, 0.2), 1);
  EXPECT_DOUBLE_EQ(warmup_cosine(2, 10, 0.2), 1);
  EXPECT_DOUBLE_EQ(warmup_cosine(6, 10, 0.2), 0.5);
  EXPECT_GT(warmup_cosine(9, 10, 0.2), 0);
  EXPECT_DOUBLE_EQ(warmup_cosine(0, 10, 0), 1);
}

}  // namespace
}  // namespace mneme::train
