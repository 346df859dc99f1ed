// libmneme_ops.so as torch.ops.load_library takes it: opened at run time, its operators found by
// name and called through the dispatcher.
#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "mneme/attention/flash_attention.h"

namespace mneme {
namespace {

using at::Tensor;

c10::OperatorHandle find(const char* name) {
  static void* library = dlopen(MNEME_OPS_LIBRARY, RTLD_NOW | RTLD_GLOBAL);
  EXPECT_NE(library, nullptr) << dlerror();
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "");
}

// Calls with the arguments given and the schema's defaults for the rest.
std::vector<Tensor> call(const char* name, std::vector<c10::IValue> stack,
                         const std::map<std::string, c10::IValue>& named = {}) {
  const c10::OperatorHandle operation = find(name);
  const auto& arguments = operation.schema().arguments();
  for (size_t i = stack.size(); i < arguments.size(); ++i) {
    const auto given = named.find(arguments[i].name());
    stack.push_back(given != named.end() ? given->second : arguments[i].default_value().value());
  }
  operation.callBoxed(stack);
  std::vector<Tensor> results;
  for (const c10::IValue& value : stack) results.push_back(value.toTensor());
  return results;
}

TEST(MnemeOps, FlashAttentionIsTheLibrarysOwnAndDifferentiable) {
  at::manual_seed(1);
  const auto normal = [](at::IntArrayRef shape) {
    return at::randn(shape).set_requires_grad(true);
  };
  const Tensor q = normal({2, 9, 4, 8}), k = normal({2, 12, 2, 8}), v = normal({2, 12, 2, 8});
  const auto got = call("mneme::flash_attention", {q, k, v}, {{"causal", true}, {"softcap", 3.0}});
  const auto [o, lse] = flash_attention(q, k, v, {.causal = true, .softcap = 3});
  ASSERT_EQ(got.size(), 2U);
  EXPECT_TRUE(got[0].equal(o));
  EXPECT_TRUE(got[1].equal(lse));
  const auto gradient = [&](const Tensor& x) {
    return torch::autograd::grad({x}, {q}, {at::ones_like(x)})[0];
  };
  EXPECT_TRUE(gradient(got[0]).equal(gradient(o)));
}

TEST(MnemeOps, PackedFlashAttention) {
  const Tensor q = at::randn({5, 2, 4}), cu = at::tensor({0, 2, 5}, at::kInt);
  const auto got = call("mneme::flash_attention_varlen", {q, q, q, cu, cu}, {{"causal", true}});
  EXPECT_TRUE(got[0].equal(std::get<0>(flash_attention_varlen(q, q, q, cu, cu, {.causal = true}))));
}

TEST(MnemeOps, ShapesAreKnownWithoutData) {
  const Tensor q =
      at::empty({2, 9, 4, 8}, at::TensorOptions().device(at::kMeta).dtype(at::kBFloat16));
  const auto got = call("mneme::flash_attention", {q, q, q}, {{"heads_first", true}});
  EXPECT_EQ(got[0].sizes(), q.sizes());
  EXPECT_EQ(got[1].sizes(), (std::vector<int64_t>{2, 9, 4}));
  EXPECT_EQ(got[1].scalar_type(), at::kFloat);
}

}  // namespace
}  // namespace mneme
