#include "mneme/train/flux_trainer.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "mneme/cache/memory_registry.h"
#include "mneme/cache/paged_memory.h"
#include "mneme/cache/policy/flux.h"
#include "mneme/io/safetensors.h"
#include "mneme/models/tiny_model_testing.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_folder.h"

namespace mneme::train {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::TinyModel;

// Texts of two tasks that their tokens tell apart: low ids and high ids.
std::vector<FluxSample> samples_of(uint64_t seed, int64_t length = 48) {
  Rng rng(seed);
  std::vector<FluxSample> samples;
  for (int64_t task = 0; task < 2; ++task) {
    FluxSample sample{.prompt = length - 3, .task = task};
    for (int64_t t = 0; t < length; ++t)
      sample.tokens.push_back(static_cast<int32_t>(25 * task + rng.below(25)));
    samples.push_back(std::move(sample));
  }
  return samples;
}

FluxTrainingOptions small() {
  return {.sink = 8, .window = 16, .block = 8, .pool = 8, .full_bias = 1, .steps = 60};
}

double mean_sparsity(const FluxTrainer& trainer, int64_t task) {
  constexpr uint64_t kPrompts = 16;  // none of those trained on
  double sum = 0;
  for (uint64_t seed = 1000; seed < 1000 + kPrompts; ++seed)
    sum += trainer.evaluate(samples_of(seed)).sparsity[static_cast<size_t>(task)];
  return sum / kPrompts;
}

// The answers are random, so their cross entropy pulls every decision some way or other. The sparsity
// loss has to win: its weights grow while a target is missed, from 1/2 at most to 6 at most here.
// Three times the learning rate left a layer that decides both tasks alike in 3 of 20 runs, and weights
// that grow at 1e-3 in about half of them; with these the worst of 20 was 0.13 and 0.94.
FluxTrainingOptions until_told_apart() {
  FluxTrainingOptions options = small();
  options.steps = 200;
  options.lambda_rate = 0.03;
  return options;
}

TEST(FluxTrainer, BeginsFullAndLearnsToTellTasksApart) {
  TinyModel tiny;
  const FrozenDecoder model(tiny.model(), at::kFloat);
  for (const bool softmax : {true, false}) {
    for (const uint64_t seed : {1u, 2u}) {
      FluxTrainingOptions options = until_told_apart();
      options.softmax = softmax;
      options.seed = seed;
      FluxTrainer trainer(model, {0, 1}, options);
      EXPECT_EQ(mean_sparsity(trainer, 0), 0);
      EXPECT_EQ(mean_sparsity(trainer, 1), 0);
      for (int64_t step = 0; step < options.steps; ++step)
        trainer.step(samples_of(static_cast<uint64_t>(step)));
      EXPECT_EQ(trainer.steps_done(), options.steps);
      EXPECT_LT(mean_sparsity(trainer, 0), 0.3) << "softmax " << softmax << ", seed " << seed;
      EXPECT_GT(mean_sparsity(trainer, 1), 0.7) << "softmax " << softmax << ", seed " << seed;
    }
  }
}

TEST(FluxTrainer, ARunIsAFunctionOfItsSeed) {
  TinyModel tiny;
  const FrozenDecoder model(tiny.model(), at::kFloat);
  const auto losses = [&](uint64_t seed) {
    FluxTrainingOptions options = small();
    options.seed = seed;
    FluxTrainer trainer(model, {0.45, 1}, options);
    std::vector<double> all;
    for (uint64_t step = 0; step < 3; ++step) all.push_back(trainer.step(samples_of(step)).loss);
    return all;
  };
  EXPECT_EQ(losses(1), losses(1));
  EXPECT_NE(losses(1), losses(2));
}

// What training says of a prompt is what the policy does with it in the engine.
TEST(FluxTrainer, ThePolicyDecidesAsTrained) {
  TinyModel tiny;
  const FrozenDecoder model(tiny.model(), at::kFloat);
  FluxTrainer trainer(model, {0, 1}, until_told_apart());
  for (uint64_t step = 0; step < 200; ++step) trainer.step(samples_of(step));
  const testing::TemporaryFolder folder;
  const std::string path = folder / "routers.safetensors";
  trainer.save(path);
  EXPECT_EQ(SafetensorsFile::open(path)->metadata().at("window"), "16");
  ThreadPool pool(2);
  int64_t all_streams = 0;
  for (uint64_t seed = 1050; seed < 1058; ++seed) {
    const std::vector<FluxSample> samples = samples_of(seed);
    const FluxStep said = trainer.evaluate(samples);
    for (size_t i = 0; i < 2; ++i) {
      const auto memory =
          MemoryRegistry::builtin().build(trainer.spec(path), tiny.model().memory_shape());
      const SequenceStep step{
          .tokens = std::span(samples[i].tokens).first(static_cast<size_t>(samples[i].prompt)),
          .memory = memory.get()};
      tiny.model().forward({&step, 1}, pool);
      const auto& policy =
          dynamic_cast<const Flux&>(dynamic_cast<const PagedMemory&>(*memory).policy());
      const auto streams = std::ranges::count(policy.routes(), Flux::Route::kSparse);
      EXPECT_DOUBLE_EQ(static_cast<double>(streams) / 2, said.sparsity[i]) << seed;
      all_streams += streams;
    }
  }
  EXPECT_GT(all_streams, 8);  // of 32 decisions, or one of the two was hardly ever made
  EXPECT_LT(all_streams, 24);
}

TEST(FluxTrainer, PaddingChangesNothing) {
  TinyModel tiny;
  const FrozenDecoder model(tiny.model(), at::kFloat);
  const FluxTrainer trainer(model, {0, 1}, small());
  const FluxSample alone = samples_of(1, 31)[1];
  const FluxSample pair[] = {alone, samples_of(2, 60)[0]};
  EXPECT_NEAR(trainer.evaluate({&alone, 1}).language_losses[0],
              trainer.evaluate(pair).language_losses[0], 1e-5);
}

TEST(FluxTrainer, SaysWhatDoesNotFit) {
  TinyModel tiny;
  const FrozenDecoder model(tiny.model(), at::kFloat);
  const auto message = [&](auto change, std::vector<double> targets = {0.5}) {
    FluxTrainingOptions options = small();
    change(options);
    return error_of([&] { FluxTrainer(model, targets, options); });
  };
  EXPECT_EQ(message([](auto& o) { o.pool = 0; }), "router training: pool must be positive, got 0");
  EXPECT_EQ(message([](auto& o) { o.warmup = 2; }),
            "router training: a warm-up is a share of the steps, got 2");
  EXPECT_EQ(message([](auto&) {}, {1.5}), "router training: a sparsity is 0 to 1, got 1.5");
  EXPECT_THAT(message([](auto& o) { o.block = 0; }), HasSubstr("block must be positive"));
  FluxTrainer trainer(model, {0.5}, small());
  FluxSample sample{.tokens = {1, 2, 3}, .prompt = 3};
  EXPECT_EQ(error_of([&] {
              trainer.step({&sample, 1});
            }),
            "sample 0: the prompt is 3 of 3 tokens, expected at least one and an answer");
  sample = {.tokens = {1, 2, 3}, .prompt = 2, .task = 1};
  EXPECT_EQ(error_of([&] { trainer.step({&sample, 1}); }), "sample 0: task 1 of 1");
}

}  // namespace
}  // namespace mneme::train
