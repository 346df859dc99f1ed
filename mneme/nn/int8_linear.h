// The LLM.int8() layer on tensors: kernels/int8_linear.h behind an autograd function. The weight is
// frozen int8; gradients flow to x (straight through the rounding, outlier columns included) and to the
// bias: what adapters over a quantised model need. State dicts have bitsandbytes' names: weight int8
// [N, K], SCB float32 [N], weight_format uint8 (0), bias [N]. Weights stored [K, N] (GPT-2's Conv1D)
// must be transposed before they are quantised: a scale belongs to an output.
// Tests: nn/int8_linear_test.cc (golden files, gradients, state dicts).
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <string>

#include "mneme/kernels/int8_linear.h"

namespace mneme::nn {

class Int8Linear {
 public:
  using State = std::map<std::string, at::Tensor>;

  // weight [N, K] of any floating type, bias [N] or undefined. Quantises a copy; the weight given is not
  // kept (options.keep_original keeps a float32 copy). Throws mneme::Error naming `name`.
  Int8Linear(const std::string& name, const at::Tensor& weight, const at::Tensor& bias,
             const Int8Options& options = {});
  // From a state dict as above; weight_format may be missing, bias too. Throws mneme::Error on an int8
  // weight without SCB, other formats, and entries it does not know.
  static Int8Linear load(const std::string& name, const State& state,
                         const Int8Options& options = {});

  // x [..., K] -> [..., N] in x's dtype, differentiable in x and the bias.
  at::Tensor forward(const at::Tensor& x) const;

  State state_dict() const;
  const at::Tensor& bias() const { return bias_; }
  const mneme::Int8Linear& kernel() const { return *layer_; }

 private:
  Int8Linear(std::shared_ptr<const mneme::Int8Linear> layer, at::Tensor bias)
      : layer_(std::move(layer)), bias_(std::move(bias)) {}

  std::shared_ptr<const mneme::Int8Linear> layer_;  // without the bias, which is trainable
  at::Tensor bias_;
};

}  // namespace mneme::nn
