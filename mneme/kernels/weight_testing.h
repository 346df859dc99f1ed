// Random weights of every supported type, for the tests and benchmarks of this room.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mneme/core/half.h"
#include "mneme/core/rng.h"
#include "mneme/core/tensor_view.h"

namespace mneme {

inline constexpr DType kWeightTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ8_0,
                                         DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1,
                                         DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};

// The byte offsets of the f16 fields of a block.
inline std::vector<int64_t> f16_fields(DType dtype) {
  switch (dtype) {
    case DType::kQ4_1:
    case DType::kQ5_1:
    case DType::kQ4_K:
    case DType::kQ5_K:
      return {0, 2};
    case DType::kQ6_K:
      return {208};
    default:
      return {0};
  }
}

// A [out, in] matrix that owns its bytes: float types are normal, quantised ones have random codes
// and scales of either sign.
class RandomWeight {
 public:
  RandomWeight(DType dtype, int64_t out, int64_t in, uint64_t seed) {
    Rng rng(seed);
    const int64_t row_bytes = dtype_row_bytes(dtype, in);
    bytes_.resize(static_cast<size_t>(out * row_bytes));
    auto* data = reinterpret_cast<uint8_t*>(bytes_.data());
    const auto put16 = [data](int64_t at, uint16_t bits) {
      data[at] = static_cast<uint8_t>(bits);
      data[at + 1] = static_cast<uint8_t>(bits >> 8);
    };
    if (dtype == DType::kF32) {
      for (int64_t i = 0; i < out * in; ++i) {
        reinterpret_cast<float*>(data)[i] = static_cast<float>(rng.normal());
      }
    } else if (dtype == DType::kF16 || dtype == DType::kBF16) {
      for (int64_t i = 0; i < out * in; ++i) {
        const auto value = static_cast<float>(rng.normal());
        put16(2 * i, dtype == DType::kF16 ? float_to_f16(value) : float_to_bf16(value));
      }
    } else {
      for (std::byte& byte : bytes_) byte = static_cast<std::byte>(rng.next());
      const DTypeInfo& info = dtype_info(dtype);
      for (int64_t at = 0; at < out * row_bytes; at += info.block_bytes) {
        for (const int64_t field : f16_fields(dtype)) {
          put16(at + field, float_to_f16(static_cast<float>(rng.normal() * 0.01)));
        }
      }
    }
    view_ = {std::string("weight.") + std::string(dtype_name(dtype)),
             dtype,
             {out, in},
             bytes_.data(),
             static_cast<int64_t>(bytes_.size())};
  }
  RandomWeight(const RandomWeight&) = delete;
  RandomWeight& operator=(const RandomWeight&) = delete;

  const TensorView& view() const { return view_; }

 private:
  std::vector<std::byte> bytes_;
  TensorView view_;
};

inline std::vector<float> random_floats(int64_t n, uint64_t seed, double deviation = 1) {
  Rng rng(seed);
  std::vector<float> values(static_cast<size_t>(n));
  for (float& value : values) value = static_cast<float>(rng.normal() * deviation);
  return values;
}

}  // namespace mneme
