// The slow, readable twin of every weight decoder: one element at a time, straight from the layout
// of the GGUF blocks. Tests compare the SIMD kernels with it, and it with ggml's own values
// (tests/quant/blocks.safetensors).
//
// Blocks of 32 elements (f16 fields little-endian, nibble i low = element i, high = element i +
// 16):
//   Q4_0  d, 16 x nibbles            w = d (q - 8)        Q4_1  d, m, 16 x nibbles      w = d q + m
//   Q5_0  d, 32 bits, 16 x nibbles   w = d (q - 16)       Q5_1  d, m, 32 bits, nibbles  w = d q + m
//   Q8_0  d, 32 x int8               w = d q              (bit i of the 32 is bit 4 of element i)
// Super-blocks of 256 elements:
//   Q4_K  d, dmin, 12 bytes, 128 nibble bytes; sub-blocks of 32 have 6-bit scale s and minimum m:
//         w = (d s) q - (dmin m). Every 32 bytes hold 32 elements low, the next 32 high.
//   Q5_K  d, dmin, 12 bytes, 32 bytes whose bit j is bit 4 of sub-block j, 128 nibble bytes.
//   Q6_K  128 low-nibble bytes, 64 bytes of bit pairs, 16 int8 scales, d: w = (d s) (q - 32).
// All products of d, s and q fit 24 bits, so w has one rounding whatever the instruction.
#pragma once

#include <cstdint>
#include <cstring>

#include "mneme/core/half.h"
#include "mneme/core/tensor_view.h"

namespace mneme {

inline float naive_f16(const uint8_t* bytes) {
  return f16_to_float(static_cast<uint16_t>(bytes[0] | (bytes[1] << 8)));
}

// The 6-bit scale and minimum of sub-block j of 8: the first four lie whole in bytes 0-3 and 4-7,
// the others have their low nibbles in bytes 8-11 and their high pairs atop the first eight.
inline void naive_scale_min(int j, const uint8_t* packed, int* scale, int* minimum) {
  if (j < 4) {
    *scale = packed[j] & 63;
    *minimum = packed[j + 4] & 63;
  } else {
    *scale = (packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4);
    *minimum = (packed[j + 4] >> 4) | ((packed[j] >> 6) << 4);
  }
}

// Element i of the block at `block`.
inline float naive_block_element(DType dtype, const uint8_t* block, int64_t i) {
  const auto nibble = [i](const uint8_t* bytes) {
    return i < 16 ? bytes[i] & 15 : bytes[i - 16] >> 4;
  };
  const auto bit = [i](const uint8_t* bytes) { return (bytes[i / 8] >> (i % 8)) & 1; };
  const auto real = [](int q) { return static_cast<float>(q); };
  switch (dtype) {
    case DType::kQ4_0:
      return naive_f16(block) * real(nibble(block + 2) - 8);
    case DType::kQ4_1:
      return naive_f16(block) * real(nibble(block + 4)) + naive_f16(block + 2);
    case DType::kQ5_0:
      return naive_f16(block) * real((nibble(block + 6) | (bit(block + 2) << 4)) - 16);
    case DType::kQ5_1:
      return naive_f16(block) * real(nibble(block + 8) | (bit(block + 4) << 4)) +
             naive_f16(block + 2);
    case DType::kQ8_0:
      return naive_f16(block) * real(static_cast<int8_t>(block[2 + i]));
    case DType::kQ4_K:
    case DType::kQ5_K: {
      const int64_t sub = i / 32;
      int scale = 0, minimum = 0;
      naive_scale_min(static_cast<int>(sub), block + 4, &scale, &minimum);
      const bool five = dtype == DType::kQ5_K;
      const uint8_t byte = block[(five ? 48 : 16) + sub / 2 * 32 + i % 32];
      int q = sub % 2 == 0 ? byte & 15 : byte >> 4;
      if (five) q |= ((block[16 + i % 32] >> sub) & 1) << 4;
      const float minimum_value = naive_f16(block + 2) * real(minimum);
      return naive_f16(block) * real(scale) * real(q) - minimum_value;
    }
    case DType::kQ6_K: {
      const int64_t half = i / 128, quarter = i % 128 / 32, l = i % 32;
      const uint8_t low = block[half * 64 + (quarter % 2) * 32 + l];
      const int nibble6 = quarter < 2 ? low & 15 : low >> 4;
      const int pair = (block[128 + half * 32 + l] >> (2 * quarter)) & 3;
      const int scale = static_cast<int8_t>(block[192 + i / 16]);
      return naive_f16(block + 208) * real(scale) * real((nibble6 | (pair << 4)) - 32);
    }
    default:
      return 0;
  }
}

// Row `row` of a [rows, columns] tensor of a supported type.
inline void naive_dequantize_row(const TensorView& tensor, int64_t row, float* out) {
  const int64_t columns = tensor.shape[1];
  const DTypeInfo& info = dtype_info(tensor.dtype);
  const auto* data =
      reinterpret_cast<const uint8_t*>(tensor.data) + row * dtype_row_bytes(tensor.dtype, columns);
  for (int64_t i = 0; i < columns; ++i) {
    const uint8_t* block = data + i / info.block_elements * info.block_bytes;
    if (tensor.dtype == DType::kF32) {
      std::memcpy(out + i, block, sizeof(float));
    } else if (tensor.dtype == DType::kF16) {
      out[i] = naive_f16(block);
    } else if (tensor.dtype == DType::kBF16) {
      out[i] = bf16_to_float(static_cast<uint16_t>(block[0] | (block[1] << 8)));
    } else {
      out[i] = naive_block_element(tensor.dtype, block, i % info.block_elements);
    }
  }
}

}  // namespace mneme
