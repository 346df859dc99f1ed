#include "mneme/nn/int8_linear.h"

#include <ATen/Parallel.h>
#include <ATen/ops/add.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include <algorithm>
#include <mutex>
#include <vector>

#include "mneme/core/error.h"

namespace mneme::nn {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Kernel = mneme::Int8Linear;

// The pool follows at::get_num_threads(); one call at a time.
template <typename Body>
void with_pool(const Body& body) {
  static std::mutex mutex;
  static std::unique_ptr<ThreadPool> pool;
  const std::lock_guard lock(mutex);
  const int threads = at::get_num_threads();
  if (pool == nullptr || pool->size() != threads) pool = std::make_unique<ThreadPool>(threads);
  body(*pool);
}

Tensor float_rows(const Tensor& x) { return x.detach().to(at::kFloat).contiguous(); }

// Keeps the layer alive for the backward pass.
struct Held : torch::CustomClassHolder {
  explicit Held(std::shared_ptr<const Kernel> of) : layer(std::move(of)) {}
  std::shared_ptr<const Kernel> layer;
};

std::vector<int64_t> with_last(const Tensor& x, int64_t last) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = last;
  return shape;
}

struct Product : torch::autograd::Function<Product> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x,
                        const std::shared_ptr<const Kernel>& layer) {
    ctx->saved_data["layer"] = c10::IValue::make_capsule(c10::make_intrusive<Held>(layer));
    const Tensor rows = float_rows(x);
    Tensor y = at::empty(with_last(x, layer->out()), rows.options());
    const int64_t count = layer->in() == 0 ? 0 : rows.numel() / layer->in();
    with_pool([&](ThreadPool& pool) {
      layer->forward(rows.const_data_ptr<float>(), count, layer->in(), y.mutable_data_ptr<float>(),
                     layer->out(), pool);
    });
    return y.to(x.scalar_type());
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto held =
        c10::static_intrusive_pointer_cast<Held>(ctx->saved_data["layer"].toCapsule());
    const Kernel& layer = *held->layer;
    const Tensor dy = float_rows(gradients[0]);
    Tensor dx = at::empty(with_last(dy, layer.in()), dy.options());
    const int64_t count = layer.out() == 0 ? 0 : dy.numel() / layer.out();
    with_pool([&](ThreadPool& pool) {
      layer.backward_input(dy.const_data_ptr<float>(), count, layer.out(),
                           dx.mutable_data_ptr<float>(), layer.in(), pool);
    });
    return {dx.to(gradients[0].scalar_type()), Tensor()};
  }
};

void check_bias(const std::string& name, const Tensor& bias, int64_t out) {
  MNEME_CHECK(!bias.defined() || (bias.dim() == 1 && bias.size(0) == out &&
                                  at::isFloatingType(bias.scalar_type())),
              name, ": expected a floating bias [", out, "] or none, got ",
              bias.defined() ? bias.sizes() : at::IntArrayRef());
}

const Tensor* find(const Int8Linear::State& state, const char* key) {
  const auto found = state.find(key);
  return found == state.end() ? nullptr : &found->second;
}

}  // namespace

Int8Linear::Int8Linear(const std::string& name, const Tensor& weight, const Tensor& bias,
                       const Int8Options& options)
    : bias_(bias) {
  MNEME_CHECK(weight.dim() == 2 && at::isFloatingType(weight.scalar_type()), name,
              ": expected a floating weight [out, in], got ", c10::toString(weight.scalar_type()),
              " ", weight.sizes());
  check_bias(name, bias, weight.size(0));
  const Tensor rows = float_rows(weight);
  const int64_t in = rows.size(1);
  const float* data = rows.const_data_ptr<float>();
  with_pool([&](ThreadPool& pool) {
    layer_ = std::make_shared<const Kernel>(
        name, rows.size(0), in, [&](int64_t n, float* to) { std::copy_n(data + n * in, in, to); },
        std::span<const float>(), options, pool);
  });
}

Int8Linear Int8Linear::load(const std::string& name, const State& state,
                            const Int8Options& options) {
  for (const auto& [key, value] : state) {
    MNEME_CHECK(key == "weight" || key == "SCB" || key == "weight_format" || key == "bias", name,
                ": unknown entry '", key, "', expected weight, SCB, weight_format and bias");
  }
  const Tensor* weight = find(state, "weight");
  MNEME_CHECK(weight != nullptr && weight->scalar_type() == at::kChar, name,
              ": expected an int8 weight, got ",
              weight == nullptr ? "none" : c10::toString(weight->scalar_type()));
  const Tensor codes = weight->contiguous();
  const Tensor* scb = find(state, "SCB");
  const Tensor scales = scb == nullptr ? Tensor() : float_rows(*scb);
  const Tensor* format = find(state, "weight_format");
  const Tensor* bias = find(state, "bias");
  const auto span = [](const auto* data, int64_t size) {
    return std::span(data, static_cast<size_t>(size));
  };
  auto layer = std::make_shared<const Kernel>(
      Kernel::from_state(name, span(codes.sizes().data(), codes.dim()),
                         span(codes.const_data_ptr<int8_t>(), codes.numel()),
                         scales.defined() ? span(scales.const_data_ptr<float>(), scales.numel())
                                          : std::span<const float>(),
                         format == nullptr ? 0 : format->item<int64_t>(), {}, options));
  Int8Linear linear(std::move(layer), bias == nullptr ? Tensor() : *bias);
  check_bias(name, linear.bias_, linear.layer_->out());
  return linear;
}

Tensor Int8Linear::forward(const Tensor& x) const {
  MNEME_CHECK(x.dim() >= 1 && x.size(-1) == layer_->in(), layer_->name(), ": expected x [..., ",
              layer_->in(), "], got ", x.sizes());
  MNEME_CHECK(at::isFloatingType(x.scalar_type()) && x.device().is_cpu(), layer_->name(),
              ": expected x of a floating type on the CPU, got ", c10::toString(x.scalar_type()),
              " on ", x.device().str());
  const Tensor y = Product::apply(x, layer_);
  return bias_.defined() ? at::add(y, bias_.to(x.scalar_type())) : y;
}

Int8Linear::State Int8Linear::state_dict() const {
  const int64_t out = layer_->out(), in = layer_->in();
  const auto options = at::TensorOptions();
  Tensor weight = at::empty({out, in}, options.dtype(at::kChar));
  for (int64_t n = 0; n < out; ++n)
    layer_->codes().get_row(n, weight.mutable_data_ptr<int8_t>() + n * in);
  Tensor scb = at::empty({out}, options.dtype(at::kFloat));
  std::ranges::copy(layer_->absmax(), scb.mutable_data_ptr<float>());
  State state = {{"weight", weight},
                 {"SCB", scb},
                 {"weight_format", at::empty({}, options.dtype(at::kByte)).zero_()}};
  if (bias_.defined()) state["bias"] = bias_;
  return state;
}

}  // namespace mneme::nn
