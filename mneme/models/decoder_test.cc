#include "mneme/models/decoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "mneme/cache/memory_registry.h"
#include "mneme/core/error.h"
#include "mneme/models/tiny_model_testing.h"
#include "tests/support/golden.h"

namespace mneme {
namespace {

using ::testing::HasSubstr;
using testing::TinyModel;

std::vector<float> run(DecoderModel& model, SequenceMemory& memory, std::span<const int32_t> tokens,
                       int64_t chunk, ThreadPool& pool) {
  std::vector<float> logits;
  for (size_t at = 0; at < tokens.size(); at += static_cast<size_t>(chunk)) {
    const SequenceStep step{
        tokens.subspan(at, std::min<size_t>(static_cast<size_t>(chunk), tokens.size() - at)),
        &memory, Logits::kAll};
    const auto rows = model.forward({&step, 1}, pool);
    logits.insert(logits.end(), rows.begin(), rows.end());
  }
  return logits;
}

// Files of models made by transformers: any case with in.input_ids and out.logits.
TEST(GoldenDecoder, LogitsUnderFullMemory) {
  const auto file = testing::GoldenFile::open("tiny-llama-kvpolicies");
  if (!file) GTEST_SKIP() << "tiny-llama-kvpolicies.safetensors";
  ThreadPool pool(2);
  int checked = 0;
  for (const testing::GoldenCase& golden : file->cases()) {
    if (!golden.has("in.input_ids") || !golden.has("out.logits")) continue;
    ++checked;
    const auto model = testing::golden_llama(golden);
    const std::vector<int64_t> ids = golden.integers("in.input_ids");
    const std::vector<int32_t> tokens(ids.begin(), ids.end());
    const auto memory = MemoryRegistry::builtin().build("full(dtype=f32)", model->memory_shape());
    testing::expect_close(run(*model, *memory, tokens, static_cast<int64_t>(tokens.size()), pool),
                          golden.floats("out.logits"), golden.abs_tolerance(),
                          golden.rel_tolerance(), golden.name() + "/out.logits");
  }
  EXPECT_GT(checked, 0);
}

class DecoderMemories : public ::testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Specs, DecoderMemories,
                         ::testing::Values("full", "full(dtype=f32)", "full(dtype=bf16)",
                                           "q8(group=32)", "q4(group=32)",
                                           "q4(group=32,rotate=none)", "sliding(window=20,sink=3)",
                                           "sliding(window=70,sink=0)+q8(group=32)"));

TEST_P(DecoderMemories, AnyChunkingGivesTheSameBits) {
  TinyModel tiny;
  ThreadPool pool(2);
  const std::vector<int32_t> tokens = tiny.tokens(200);
  const auto whole_memory =
      MemoryRegistry::builtin().build(GetParam(), tiny.model().memory_shape());
  const std::vector<float> whole = run(tiny.model(), *whole_memory, tokens, 200, pool);
  for (const int64_t chunk : {1, 7, 63, 64, 128}) {
    const auto memory = MemoryRegistry::builtin().build(GetParam(), tiny.model().memory_shape());
    EXPECT_EQ(run(tiny.model(), *memory, tokens, chunk, pool), whole) << "chunk " << chunk;
    EXPECT_EQ(memory->resident_bytes(), memory->predict_bytes(200)) << "chunk " << chunk;
  }
}

TEST_P(DecoderMemories, ABatchGivesTheSameBitsAsSingleRuns) {
  TinyModel tiny;
  ThreadPool pool(2);
  const auto& registry = MemoryRegistry::builtin();
  const std::vector<int32_t> tokens = tiny.tokens(150);
  const std::vector<int64_t> lengths = {1, 40, 99};
  std::vector<std::unique_ptr<SequenceMemory>> memories;
  std::vector<SequenceStep> steps;
  for (const int64_t length : lengths) {
    memories.push_back(registry.build(GetParam(), tiny.model().memory_shape()));
    run(tiny.model(), *memories.back(), std::span(tokens).first(static_cast<size_t>(length)), 64,
        pool);
  }
  for (size_t i = 0; i < lengths.size(); ++i) {
    steps.push_back({std::span(tokens).subspan(static_cast<size_t>(lengths[i]), 5),
                     memories[i].get(), Logits::kLast});
  }
  const auto rows = tiny.model().forward(steps, pool);
  const std::vector<float> batched(rows.begin(), rows.end());
  const size_t vocabulary = batched.size() / lengths.size();
  for (size_t i = 0; i < lengths.size(); ++i) {
    const auto memory = registry.build(GetParam(), tiny.model().memory_shape());
    const std::vector<float> single =
        run(tiny.model(), *memory, std::span(tokens).first(static_cast<size_t>(lengths[i] + 5)), 64,
            pool);
    EXPECT_TRUE(std::equal(single.end() - static_cast<int64_t>(vocabulary), single.end(),
                           batched.begin() + static_cast<int64_t>(i * vocabulary)))
        << "sequence " << i;
  }
}

TEST_P(DecoderMemories, AForkDivergesWithoutTouchingItsParent) {
  TinyModel tiny;
  ThreadPool pool(2);
  const std::vector<int32_t> tokens = tiny.tokens(130);
  const auto straight = MemoryRegistry::builtin().build(GetParam(), tiny.model().memory_shape());
  const std::vector<float> expected = run(tiny.model(), *straight, tokens, 50, pool);

  const auto parent = MemoryRegistry::builtin().build(GetParam(), tiny.model().memory_shape());
  run(tiny.model(), *parent, std::span(tokens).first(100), 50, pool);
  const auto fork = parent->fork();
  const std::vector<int32_t> other(60, 5);
  run(tiny.model(), *fork, other, 60, pool);
  const std::vector<float> rest =
      run(tiny.model(), *parent, std::span(tokens).subspan(100), 30, pool);
  EXPECT_TRUE(
      std::equal(rest.begin(), rest.end(), expected.end() - static_cast<int64_t>(rest.size())));
}

TEST(Decoder, AWindowOverTheWholeTextEqualsFull) {
  TinyModel tiny;
  ThreadPool pool(2);
  const std::vector<int32_t> tokens = tiny.tokens(150);
  const auto full = MemoryRegistry::builtin().build("full", tiny.model().memory_shape());
  const auto sliding =
      MemoryRegistry::builtin().build("sliding(window=150,sink=0)", tiny.model().memory_shape());
  EXPECT_EQ(run(tiny.model(), *full, tokens, 150, pool),
            run(tiny.model(), *sliding, tokens, 33, pool));
}

TEST(Decoder, BadStepsAreRefusedAndChangeNothing) {
  TinyModel tiny;
  ThreadPool pool(1);
  const auto& registry = MemoryRegistry::builtin();
  const auto memory = registry.build("full", tiny.model().memory_shape());
  const std::vector<int32_t> tokens = tiny.tokens(300);
  const auto message = [&](std::vector<SequenceStep> steps) -> std::string {
    try {
      tiny.model().forward(steps, pool);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  const std::vector<int32_t> bad = {1, -1};
  const std::vector<int32_t> large = {static_cast<int32_t>(tiny.model().config().vocabulary)};
  EXPECT_THAT(message({{bad, memory.get()}}), HasSubstr("got -1"));
  EXPECT_THAT(message({{large, memory.get()}}), HasSubstr("token ids are 0 to"));
  EXPECT_THAT(message({{{}, memory.get()}}), HasSubstr("has no tokens"));
  EXPECT_THAT(message({{tokens, nullptr}}), HasSubstr("has no memory"));
  EXPECT_THAT(message({{std::span(tokens).first(2), memory.get()},
                       {std::span(tokens).first(2), memory.get()}}),
              HasSubstr("share one memory"));
  // The second sequence is over the context: the first must not keep its step.
  const auto other = registry.build("full", tiny.model().memory_shape());
  EXPECT_THAT(message({{std::span(tokens).first(2), memory.get()}, {tokens, other.get()}}),
              HasSubstr("44 tokens longer than the model's context of 256"));
  EXPECT_EQ(memory->length(), 0);
  EXPECT_EQ(memory->resident_bytes(), 0);
  MemoryShape shape = tiny.model().memory_shape();
  shape.kv_heads = shape.q_heads;
  const auto foreign = registry.build("full", shape);
  EXPECT_THAT(message({{std::span(tokens).first(2), foreign.get()}}),
              HasSubstr("made for another model"));
}

}  // namespace
}  // namespace mneme
