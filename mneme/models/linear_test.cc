#include "mneme/models/linear.h"

#include <gtest/gtest.h>

#include <string>

#include "mneme/cache/memory_registry.h"
#include "mneme/kernels/matmul.h"
#include "mneme/kernels/weight_testing.h"
#include "mneme/models/tiny_model_testing.h"

namespace mneme {
namespace {

using testing::TinyModel;

// A stored linear that claims to hold bytes of its own and not to need its tensor.
class Counted final : public Linear {
 public:
  explicit Counted(const TensorView& weight) : inner_(float_linear(weight)) {}
  void apply(const float* x, int64_t rows, int64_t x_stride, float* y, int64_t y_stride,
             ThreadPool& pool) const override {
    inner_->apply(x, rows, x_stride, y, y_stride, pool);
  }
  int64_t owned_bytes() const override { return 100; }
  bool reads_tensor() const override { return false; }
  int64_t workspace_bytes(int64_t rows) const override { return 10'000 * rows; }

 private:
  std::unique_ptr<Linear> inner_;
};

std::vector<float> logits_of(DecoderModel& model, std::span<const int32_t> tokens) {
  ThreadPool pool(2);
  const auto memory = MemoryRegistry::builtin().build("full(dtype=f32)", model.memory_shape());
  const SequenceStep step{tokens, memory.get(), Logits::kAll};
  const auto rows = model.forward({&step, 1}, pool);
  return {rows.begin(), rows.end()};
}

TEST(Linear, FloatIsTheProductWithTheTensor) {
  const auto tensors = testing::tiny_tensors(3);
  const TensorView& weight = *tensors->find("model.layers.0.mlp.down_proj.weight");
  const auto linear = float_linear(weight);
  EXPECT_TRUE(linear->reads_tensor());
  EXPECT_EQ(linear->owned_bytes(), 0);
  ThreadPool pool(2);
  const std::vector<float> x(3 * 100, 0.5f);
  std::vector<float> y(3 * 70), expected(3 * 70);
  linear->apply(x.data(), 3, 100, y.data(), 70, pool);
  matmul(weight, x.data(), 3, 100, expected.data(), 70, pool);
  EXPECT_EQ(y, expected);
}

TEST(Linear, AModelUsesTheLinearsItIsGivenAndCountsTheirBytes) {
  TinyModel tiny;
  DecoderModel& model = tiny.model();
  const std::vector<int32_t> tokens = tiny.tokens(20);
  const std::vector<float> stored = logits_of(model, tokens);
  const int64_t stored_bytes = model.weight_bytes();
  const int64_t stored_workspace = model.workspace_bytes(20, 1);

  std::vector<std::string> made;
  model.set_linears(
      [&](int64_t layer, const TensorView& weight) -> std::unique_ptr<Linear> {
        made.push_back(std::to_string(layer) + " " + weight.name);
        return std::make_unique<Counted>(weight);
      },
      "counted");
  ASSERT_EQ(made.size(), 14u);
  EXPECT_EQ(made.front(), "0 model.layers.0.self_attn.q_proj.weight");
  EXPECT_EQ(made.back(), "1 model.layers.1.mlp.down_proj.weight");
  EXPECT_EQ(logits_of(model, tokens), stored);
  // Tensors in memory cannot be given back, so they still count.
  EXPECT_EQ(model.weight_bytes(), stored_bytes + 14 * 100);
  EXPECT_EQ(model.linear_bytes(), 14 * 100);
  EXPECT_EQ(model.workspace_bytes(20, 1), stored_workspace + 200'000);

  model.use_float_products();
  EXPECT_EQ(logits_of(model, tokens), stored);
  EXPECT_EQ(model.weight_bytes(), stored_bytes);
}

TEST(Linear, StoredRoundsActivationsAloneAndTogetherAlike) {
  ThreadPool pool(2);
  const RandomWeight a(DType::kQ4_1, 70, 96, 1), b(DType::kQ8_0, 33, 96, 2),
      c(DType::kF16, 20, 96, 3);
  const auto first = stored_linear(a.view(), pool), second = stored_linear(b.view(), pool),
             third = stored_linear(c.view(), pool);
  EXPECT_NE(first->packed(), nullptr);
  EXPECT_FALSE(first->reads_tensor());
  EXPECT_GE(first->owned_bytes(), a.view().bytes);
  EXPECT_EQ(third->packed(), nullptr);
  EXPECT_TRUE(third->reads_tensor());
  const std::vector<float> x = random_floats(5 * 100, 4);
  std::vector<float> y1(5 * 70), y2(5 * 33), y3(5 * 20);
  for (const bool all : {true, false}) {
    std::vector<float> t1(5 * 70), t2(5 * 33), t3(5 * 20);
    const LinearOutput outputs[] = {
        {first.get(), t1.data(), 70}, {second.get(), t2.data(), 33}, {third.get(), t3.data(), 20}};
    apply_together({outputs, all ? size_t{3} : size_t{2}}, x.data(), 5, 100, pool);
    first->apply(x.data(), 5, 100, y1.data(), 70, pool);
    second->apply(x.data(), 5, 100, y2.data(), 33, pool);
    EXPECT_EQ(t1, y1);
    EXPECT_EQ(t2, y2);
    if (!all) continue;
    third->apply(x.data(), 5, 100, y3.data(), 20, pool);
    EXPECT_EQ(t3, y3);
  }
}

}  // namespace
}  // namespace mneme
