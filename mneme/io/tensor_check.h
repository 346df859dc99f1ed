// Values that no sound weight has: NaN and infinity, in float tensors and in the half-precision
// scales of quantised blocks. Tests: tensor_check_test.cc.
#pragma once

#include <cstdint>

#include "mneme/core/tensor_view.h"

namespace mneme {

struct NonFiniteCount {
  int64_t nan = 0;
  int64_t inf = 0;
};

// Counts elements of F32, F16, BF16 and F64 tensors, and scales and minima of quantised ones (each
// of them spoils a whole block); integers have none. Reads the whole tensor.
NonFiniteCount count_non_finite(const TensorView& tensor);

}  // namespace mneme
