#include "mneme/models/linear.h"

#include <gtest/gtest.h>

#include <string>

#include "mneme/cache/memory_registry.h"
#include "mneme/kernels/matmul.h"
#include "mneme/models/tiny_model_testing.h"

namespace mneme {
namespace {

using testing::TinyModel;

// A stored linear that claims to hold bytes of its own and not to need its tensor.
class Counted final : public Linear {
 public:
  explicit Counted(const TensorView& weight) : inner_(stored_linear(weight)) {}
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

TEST(Linear, StoredIsTheProductWithTheTensor) {
  const auto tensors = testing::tiny_tensors(3);
  const TensorView& weight = *tensors->find("model.layers.0.mlp.down_proj.weight");
  const auto linear = stored_linear(weight);
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
  model.set_linears([&](int64_t layer, const TensorView& weight) -> std::unique_ptr<Linear> {
    made.push_back(std::to_string(layer) + " " + weight.name);
    return std::make_unique<Counted>(weight);
  });
  ASSERT_EQ(made.size(), 14u);
  EXPECT_EQ(made.front(), "0 model.layers.0.self_attn.q_proj.weight");
  EXPECT_EQ(made.back(), "1 model.layers.1.mlp.down_proj.weight");
  EXPECT_EQ(logits_of(model, tokens), stored);
  // Tensors in memory cannot be given back, so they still count.
  EXPECT_EQ(model.weight_bytes(), stored_bytes + 14 * 100);
  EXPECT_EQ(model.linear_bytes(), 14 * 100);
  EXPECT_EQ(model.workspace_bytes(20, 1), stored_workspace + 200'000);

  model.set_linears([](int64_t, const TensorView& weight) { return stored_linear(weight); });
  EXPECT_EQ(logits_of(model, tokens), stored);
  EXPECT_EQ(model.weight_bytes(), stored_bytes);
}

}  // namespace
}  // namespace mneme
