#include "mneme/nn/int8_linear.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "tests/support/error_of.h"
#include "tests/support/golden.h"

namespace mneme::nn {
namespace {

using at::Tensor;
using mneme::testing::error_of;
using mneme::testing::GoldenCase;
using ::testing::HasSubstr;

Tensor tensor_of(const GoldenCase& golden, const std::string& part) {
  std::vector<float> values = golden.floats(part);
  return at::from_blob(values.data(), golden.shape(part), at::kFloat).clone();
}

std::vector<float> floats_of(const Tensor& x) {
  const Tensor flat = x.detach().to(at::kFloat).contiguous();
  return {flat.const_data_ptr<float>(), flat.const_data_ptr<float>() + flat.numel()};
}

constexpr Int8Options kInt8 = {.activations = Int8Options::Activations::kInt8};

TEST(GoldenInt8Layer, OutputsAndGradients) {
  const auto file = mneme::testing::GoldenFile::open("13-llm-int8");
  if (!file) GTEST_SKIP() << "13-llm-int8.safetensors";
  int checked = 0;
  for (const GoldenCase& golden : file->cases()) {
    if (!golden.has("out.CB") || !golden.has("out.o_exact")) continue;
    ++checked;
    Int8Options options = kInt8;
    options.threshold = golden.config().value("threshold", 6.0);
    Tensor bias;
    if (golden.has("param.bias")) bias = tensor_of(golden, "param.bias").set_requires_grad(true);
    const Tensor x = tensor_of(golden, "in.x").set_requires_grad(true);
    const Int8Linear layer(golden.name(), tensor_of(golden, "param.weight"), bias, options);
    const Tensor y = layer.forward(x);
    mneme::testing::expect_close(floats_of(y), golden.floats("out.o_exact"), golden.abs_tolerance(),
                                 golden.rel_tolerance(), golden.name() + "/out.o_exact");
    if (!golden.has("grad.x")) continue;
    const Tensor dout = tensor_of(golden, "in.dout");
    std::vector<Tensor> inputs = {x};
    if (bias.defined()) inputs.push_back(bias);
    const auto gradients = torch::autograd::grad({y}, inputs, {dout});
    mneme::testing::expect_close(floats_of(gradients[0]), golden.floats("grad.x"),
                                 golden.abs_tolerance(), golden.rel_tolerance(),
                                 golden.name() + "/grad.x");
    if (bias.defined()) {
      const Tensor expected = dout.reshape({-1, dout.size(-1)}).to(at::kDouble).sum(0);
      EXPECT_LT((gradients[1] - expected).abs().max().item<double>(), 1e-5);
    }
  }
  EXPECT_GT(checked, 0);
}

TEST(Int8Layer, AStateDictGivesTheSameLayer) {
  const Tensor weight = at::randn({19, 30}), bias = at::randn({19});
  const Int8Linear layer("q", weight, bias, kInt8);
  const Int8Linear::State state = layer.state_dict();
  EXPECT_EQ(state.at("weight").scalar_type(), at::kChar);
  EXPECT_EQ(state.at("SCB").sizes(), at::IntArrayRef({19}));
  EXPECT_TRUE(at::allclose(state.at("SCB"), std::get<0>(weight.abs().max(1)), 0, 0));
  EXPECT_EQ(state.at("weight_format").item<int64_t>(), 0);
  const Tensor x = at::randn({2, 7, 30}) * 3;
  EXPECT_TRUE(at::equal(Int8Linear::load("q", state, kInt8).forward(x), layer.forward(x)));
}

TEST(Int8Layer, KeepsTheTypeAndTheShapeOfX) {
  const Tensor weight = at::randn({19, 30});
  const Int8Linear layer("q", weight.to(at::kBFloat16), {}, kInt8);
  for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf}) {
    const Tensor y = layer.forward(at::randn({2, 1, 30}).to(type).transpose(0, 1));
    EXPECT_EQ(y.scalar_type(), type);
    EXPECT_EQ(y.sizes(), at::IntArrayRef({1, 2, 19}));
  }
  EXPECT_EQ(layer.forward(at::randn({30})).sizes(), at::IntArrayRef({19}));
  EXPECT_EQ(layer.forward(at::randn({0, 30})).sizes(), at::IntArrayRef({0, 19}));
}

TEST(Int8Layer, RefusesWhatCannotBeByName) {
  const Tensor weight = at::randn({4, 6});
  const Int8Linear layer("blk.2.q", weight, {}, kInt8);
  EXPECT_THAT(error_of([&] {
                layer.forward(at::randn({3, 5}));
              }),
              HasSubstr("blk.2.q: expected x [..., 6], got [3, 5]"));
  EXPECT_THAT(error_of([&] {
                layer.forward(at::full({2, 6}, NAN));
              }),
              HasSubstr("blk.2.q: expected finite activations, got nan in row 0"));
  EXPECT_THAT(error_of([&] { Int8Linear("q", at::randn({4}), {}); }),
              HasSubstr("q: expected a floating weight [out, in], got Float [4]"));
  EXPECT_THAT(error_of([&] { Int8Linear("q", weight, at::randn({5})); }),
              HasSubstr("q: expected a floating bias [4] or none, got [5]"));
  Int8Linear::State state = layer.state_dict();
  state["weight_format"] = at::ones({}, at::kByte);
  EXPECT_THAT(error_of([&] { Int8Linear::load("q", state); }),
              HasSubstr("q: weight_format must be 0 (row-major), got 1"));
  state.erase("weight_format");
  state.erase("SCB");
  EXPECT_THAT(error_of([&] { Int8Linear::load("q", state); }),
              HasSubstr("q: an int8 weight needs its SCB"));
  EXPECT_THAT(error_of([&] {
                Int8Linear::load("q", {{"weight", weight}});
              }),
              HasSubstr("q: expected an int8 weight, got Float"));
  EXPECT_THAT(error_of([&] {
                Int8Linear::load("q", {{"scale", weight}});
              }),
              HasSubstr("q: unknown entry 'scale'"));
}

}  // namespace
}  // namespace mneme::nn
