// From the type of a weight to code made for it.
#pragma once

#include <type_traits>
#include <utility>

#include "mneme/core/dtype.h"
#include "mneme/core/error.h"

namespace mneme {

// The weight types of matmul.h.
constexpr bool is_weight_type(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kQ8_0:
    case DType::kQ4_0:
    case DType::kQ4_1:
    case DType::kQ5_0:
    case DType::kQ5_1:
    case DType::kQ4_K:
    case DType::kQ5_K:
    case DType::kQ6_K:
      return true;
    default:
      return false;
  }
}

template <DType kType>
using TypeConstant = std::integral_constant<DType, kType>;

// Calls body(TypeConstant<dtype>) for a weight type.
template <typename Body>
void dispatch_type(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::kF32:
      return body(TypeConstant<DType::kF32>());
    case DType::kF16:
      return body(TypeConstant<DType::kF16>());
    case DType::kBF16:
      return body(TypeConstant<DType::kBF16>());
    case DType::kQ8_0:
      return body(TypeConstant<DType::kQ8_0>());
    case DType::kQ4_0:
      return body(TypeConstant<DType::kQ4_0>());
    case DType::kQ4_1:
      return body(TypeConstant<DType::kQ4_1>());
    case DType::kQ5_0:
      return body(TypeConstant<DType::kQ5_0>());
    case DType::kQ5_1:
      return body(TypeConstant<DType::kQ5_1>());
    case DType::kQ4_K:
      return body(TypeConstant<DType::kQ4_K>());
    case DType::kQ5_K:
      return body(TypeConstant<DType::kQ5_K>());
    case DType::kQ6_K:
      return body(TypeConstant<DType::kQ6_K>());
    default:
      MNEME_ASSERT(is_weight_type(dtype));
  }
}

}  // namespace mneme
