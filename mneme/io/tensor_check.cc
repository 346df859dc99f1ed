#include "mneme/io/tensor_check.h"

#include <cmath>
#include <cstring>

#include "mneme/core/error.h"
#include "mneme/core/half.h"

namespace mneme {
namespace {

template <typename Float>
void count(Float value, NonFiniteCount& counts) {
  if (std::isnan(value)) ++counts.nan;
  if (std::isinf(value)) ++counts.inf;
}

// Tensor bytes may lie at any address.
template <typename T>
T load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

template <typename Stored, typename Convert>
NonFiniteCount count_elements(const TensorView& tensor, Convert to_float) {
  NonFiniteCount counts;
  for (int64_t at = 0; at < tensor.bytes; at += static_cast<int64_t>(sizeof(Stored))) {
    count(to_float(load<Stored>(tensor.data + at)), counts);
  }
  return counts;
}

// `halves` consecutive half-precision numbers from byte `first` of every block.
NonFiniteCount count_scales(const TensorView& tensor, int64_t first, int64_t halves) {
  const int64_t block_bytes = dtype_info(tensor.dtype).block_bytes;
  NonFiniteCount counts;
  for (int64_t block = 0; block < tensor.bytes; block += block_bytes) {
    for (int64_t i = 0; i < halves; ++i) {
      count(f16_to_float(load<uint16_t>(tensor.data + block + first + 2 * i)), counts);
    }
  }
  return counts;
}

}  // namespace

NonFiniteCount count_non_finite(const TensorView& tensor) {
  const DTypeInfo& info = dtype_info(tensor.dtype);
  MNEME_CHECK(tensor.bytes >= 0 && tensor.bytes % info.block_bytes == 0,
              "count_non_finite: tensor ", tensor.name, " has ", tensor.bytes,
              " bytes, expected a multiple of ", info.block_bytes);
  switch (tensor.dtype) {
    case DType::kF32:
      return count_elements<float>(tensor, [](float value) { return value; });
    case DType::kF64:
      return count_elements<double>(tensor, [](double value) { return value; });
    case DType::kF16:
      return count_elements<uint16_t>(tensor, f16_to_float);
    case DType::kBF16:
      return count_elements<uint16_t>(tensor, bf16_to_float);
    case DType::kQ4_0:
    case DType::kQ5_0:
    case DType::kQ8_0:
      return count_scales(tensor, 0, 1);  // scale
    case DType::kQ4_1:
    case DType::kQ5_1:
    case DType::kQ4_K:
    case DType::kQ5_K:
      return count_scales(tensor, 0, 2);  // scale and minimum
    case DType::kQ6_K:
      return count_scales(tensor, info.block_bytes - 2, 1);  // the scale comes last
    default:
      return {};
  }
}

}  // namespace mneme
