#include "mneme/models/head_edits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "mneme/cache/memory_registry.h"
#include "mneme/core/error.h"
#include "mneme/models/tiny_model_testing.h"
#include "tests/support/error_of.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::TinyModel;

constexpr int64_t kHeads = 4, kDim = 32, kWidth = kHeads * kDim;

// Logits of every position.
std::vector<float> run(DecoderModel& model, const std::vector<int32_t>& tokens, int64_t chunk,
                       const char* spec = "full(dtype=f32)") {
  ThreadPool pool(2);
  const auto memory = MemoryRegistry::builtin().build(spec, model.memory_shape());
  std::vector<float> logits;
  for (int64_t at = 0; at < std::ssize(tokens); at += chunk) {
    const int64_t count = std::min(chunk, std::ssize(tokens) - at);
    const SequenceStep step{
        std::span(tokens).subspan(static_cast<size_t>(at), static_cast<size_t>(count)),
        memory.get(), Logits::kAll};
    const auto rows = model.forward({&step, 1}, pool);
    logits.insert(logits.end(), rows.begin(), rows.end());
  }
  return logits;
}

// The tiny model with one tensor changed: change(row, column, value).
template <typename Change>
std::unique_ptr<DecoderModel> changed_model(const std::string& name, Change change) {
  const auto original = testing::tiny_tensors(7);
  auto tensors = std::make_shared<testing::OwnedTensors>();
  for (const TensorView& tensor : original->tensors()) {
    const auto* first = reinterpret_cast<const float*>(tensor.data);
    std::vector<float> values(first, first + tensor.elements());
    if (tensor.name == name) {
      const int64_t columns = tensor.shape[1];
      for (int64_t i = 0; i < tensor.elements(); ++i)
        change(i / columns, i % columns, values[static_cast<size_t>(i)]);
    }
    tensors->add(tensor.name, tensor.shape, std::move(values));
  }
  auto model = load_llama_state_dict(testing::tiny_config(), tensors);
  model->use_float_products();
  return model;
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i)
    largest = std::max(largest, std::abs(double{a[i]} - double{b[i]}));
  return largest;
}

class HeadEditsTest : public ::testing::Test {
 protected:
  HeadEditsTest() { tiny.model().use_float_products(); }

  TinyModel tiny;
  HeadEdits edits{tiny.model().config()};
  const std::vector<int32_t> tokens = tiny.tokens(100);
};

TEST_F(HeadEditsTest, WithoutAnEditNoBitChanges) {
  const std::vector<float> plain = run(tiny.model(), tokens, 100);
  const ScopedHeadHooks hooks(tiny.model(), &edits);
  EXPECT_EQ(run(tiny.model(), tokens, 100), plain);
  edits.prune(std::vector<HeadId>{{0, 1}});
  edits.make_uniform(std::vector<HeadId>{{1, 2}});
  EXPECT_NE(run(tiny.model(), tokens, 100), plain);
  edits.clear();
  EXPECT_EQ(run(tiny.model(), tokens, 100), plain);
}

// A factor before the output projection is one of that projection's columns.
TEST_F(HeadEditsTest, AFactorIsThatOfTheHeadsColumns) {
  for (const float factor : {0.0f, -0.5f, 3.0f}) {
    const auto expected = changed_model("model.layers.1.self_attn.o_proj.weight",
                                        [&](int64_t, int64_t column, float& value) {
                                          if (column / kDim == 2) value *= factor;
                                        });
    edits.scale({1, 2}, factor);
    const ScopedHeadHooks hooks(tiny.model(), &edits);
    EXPECT_LT(largest_difference(run(tiny.model(), tokens, 37), run(*expected, tokens, 100)), 2e-5)
        << factor;
  }
}

// Without a query every row is as good as another: the same as projecting none.
TEST_F(HeadEditsTest, AUniformHeadHasNoQuery) {
  const auto expected = changed_model("model.layers.0.self_attn.q_proj.weight",
                                      [&](int64_t row, int64_t, float& value) {
                                        if (row / kDim == 3) value = 0;
                                      });
  edits.make_uniform(std::vector<HeadId>{{0, 3}});
  const ScopedHeadHooks hooks(tiny.model(), &edits);
  for (const char* spec : {"full(dtype=f32)", "sliding(window=20,sink=2)"}) {
    EXPECT_LT(
        largest_difference(run(tiny.model(), tokens, 100, spec), run(*expected, tokens, 100, spec)),
        2e-5)
        << spec;
  }
}

TEST_F(HeadEditsTest, UniformFromAPositionOnWhateverTheChunks) {
  const int64_t vocabulary = tiny.model().config().vocabulary;
  const std::vector<float> plain = run(tiny.model(), tokens, 100);
  edits.make_uniform(std::vector<HeadId>{{0, 0}, {1, 1}}, 60);
  const ScopedHeadHooks hooks(tiny.model(), &edits);
  const std::vector<float> whole = run(tiny.model(), tokens, 100);
  const auto first_difference = std::ranges::mismatch(whole, plain).in1 - whole.begin();
  EXPECT_EQ(first_difference / vocabulary, 60);
  for (const int64_t chunk : {1, 7, 60, 64})
    EXPECT_EQ(run(tiny.model(), tokens, chunk), whole) << chunk;
}

TEST_F(HeadEditsTest, BadEditsAreRefused) {
  EXPECT_THAT(error_of([&] {
                edits.scale({2, 0}, 0);
              }),
              HasSubstr("head (2,0) is not one of 2 layers with 4 query heads"));
  EXPECT_THAT(error_of([&] { edits.prune(std::vector<HeadId>{{0, 4}}); }), HasSubstr("(0,4)"));
  EXPECT_THAT(error_of([&] {
                edits.make_uniform(std::vector<HeadId>{{-1, 0}});
              }),
              HasSubstr("(-1,0)"));
  EXPECT_THAT(error_of([&] {
                edits.make_uniform(std::vector<HeadId>{{0, 0}}, -1);
              }),
              HasSubstr("at least 0, got -1"));
  EXPECT_THAT(error_of([&] { edits.scale({0, 0}, 1.0f / 0.0f); }), HasSubstr("finite"));
}

// Sees every head of every step and fails in the second layer when told to.
class Watcher final : public HeadHooks {
 public:
  void outputs(const HeadStep& step) override {
    if (step.layer == 1 && fails) fail("told to");
    EXPECT_EQ(step.heads * step.dim, kWidth);
    positions.push_back(step.first_position);
    sequences.push_back(step.sequence);
  }
  bool fails = false;
  std::vector<int64_t> positions, sequences;
};

TEST_F(HeadEditsTest, HooksSeeSequencesAndAFailureUndoesTheStep) {
  Watcher watcher;
  ThreadPool pool(1);
  const auto make = [&] {
    return MemoryRegistry::builtin().build("full", tiny.model().memory_shape());
  };
  const auto a = make(), b = make();
  const SequenceStep first{std::span(tokens).first(5), a.get(), Logits::kNone};
  tiny.model().forward({&first, 1}, pool);
  const std::vector<SequenceStep> both = {{std::span(tokens).first(3), a.get(), Logits::kNone},
                                          {std::span(tokens).first(2), b.get(), Logits::kNone}};
  {
    const ScopedHeadHooks hooks(tiny.model(), &watcher);
    tiny.model().forward(both, pool);
    EXPECT_EQ(watcher.positions, (std::vector<int64_t>{5, 0, 5, 0}));
    EXPECT_EQ(watcher.sequences, (std::vector<int64_t>{0, 1, 0, 1}));
    watcher.fails = true;
    EXPECT_THAT(error_of([&] { tiny.model().forward(both, pool); }), HasSubstr("told to"));
  }
  EXPECT_EQ(tiny.model().head_hooks(), nullptr);
  EXPECT_EQ(a->length(), 8);
  EXPECT_EQ(b->length(), 2);
  tiny.model().forward(both, pool);
  EXPECT_EQ(a->length(), 11);
}

}  // namespace
}  // namespace mneme
