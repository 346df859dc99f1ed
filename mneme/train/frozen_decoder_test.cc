#include "mneme/train/frozen_decoder.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "mneme/cache/memory_registry.h"
#include "mneme/io/gguf.h"
#include "mneme/models/load_model.h"
#include "mneme/models/tiny_model_testing.h"
#include "mneme/train/mixed_attention.h"
#include "tests/support/error_of.h"
#include "tests/support/tiny_gguf.h"

namespace mneme::train {
namespace {

using at::Tensor;

// The engine's logits of every row, float products.
Tensor engine_logits(DecoderModel& model, const std::vector<int32_t>& tokens) {
  ThreadPool pool(2);
  model.use_float_products();
  const auto memory = MemoryRegistry::builtin().build("full(dtype=f32)", model.memory_shape());
  const SequenceStep step{.tokens = tokens, .memory = memory.get(), .logits = Logits::kAll};
  const auto logits = model.forward({&step, 1}, pool);
  return at::from_blob(const_cast<float*>(logits.data()),
                       {std::ssize(tokens), model.config().vocabulary}, at::kFloat)
      .clone();
}

Tensor ours(const DecoderModel& model, const std::vector<int32_t>& tokens, at::ScalarType type) {
  const FrozenDecoder frozen(model, type);
  const auto length = std::ssize(tokens);
  const Tensor ids = at::tensor(at::ArrayRef<int32_t>(tokens), at::kInt).to(at::kLong).unsqueeze(0);
  const Tensor sees = visible_mask(length, length, {});
  return frozen.logits(
      at::cat({ids.flip(1), ids}), at::arange(length, 2 * length),
      [&](int64_t, const Tensor&, const Tensor& q, const Tensor& k, const Tensor& v) {
        return masked_attention(q, k, v, sees, model.config().attention_scale);
      });
}

double error(const Tensor& got, const Tensor& want) {
  return ((got - want).abs().max() / want.abs().max()).item<double>();
}

TEST(FrozenDecoder, IsTheEngine) {
  testing::TinyModel tiny;
  const std::vector<int32_t> tokens = tiny.tokens(63);
  const Tensor want = engine_logits(tiny.model(), tokens);
  EXPECT_LT(error(ours(tiny.model(), tokens, at::kFloat), want), 1e-5);
  // bfloat16 rounds to 8 bits, in some twenty products.
  EXPECT_LT(error(ours(tiny.model(), tokens, at::kBFloat16), want), 0.05);
}

TEST(FrozenDecoder, ReadsFilesWhosePairsAreInterleaved) {
  const std::string bytes = testing::tiny_llama_gguf().build();
  const auto model = load_model(
      GgufFile::parse(reinterpret_cast<const std::byte*>(bytes.data()), std::ssize(bytes), "tiny"));
  ASSERT_EQ(model->config().rope_pairs, RopePairs::kInterleaved);
  const std::vector<int32_t> tokens = {5, 17, 200, 3, 3, 90, 41};
  EXPECT_LT(error(ours(*model, tokens, at::kFloat), engine_logits(*model, tokens)), 1e-5);
}

TEST(FrozenDecoder, SaysWhichModelsItCannotBe) {
  const std::string bytes = testing::tiny_gemma3_gguf().build();
  const auto model = load_model(
      GgufFile::parse(reinterpret_cast<const std::byte*>(bytes.data()), std::ssize(bytes), "tiny"));
  EXPECT_EQ(testing::error_of([&] { FrozenDecoder(*model, at::kFloat); }),
            "gemma3: only llama models can be trained with so far");
}

}  // namespace
}  // namespace mneme::train
