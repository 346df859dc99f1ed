// Element types of tensors in files and in memory, block-quantised GGUF types included.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace mneme {

enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kF64,
  kI8,
  kI16,
  kI32,
  kI64,
  kU8,
  kU16,
  kU32,
  kU64,
  kBool,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ4_K,
  kQ5_K,
  kQ6_K,
};

struct DTypeInfo {
  DType dtype;
  std::string_view name;   // as safetensors ("F32") or GGUF ("Q4_1") spells it
  int64_t block_elements;  // 1, or the elements that share one quantisation block
  int64_t block_bytes;
};

const DTypeInfo& dtype_info(DType dtype);
inline std::string_view dtype_name(DType dtype) { return dtype_info(dtype).name; }

// The dtype spelled exactly `name`, or nothing.
std::optional<DType> dtype_from_name(std::string_view name);

// Bytes of `elements` values along the innermost dimension; throws Error when they do not fill
// whole blocks.
int64_t dtype_row_bytes(DType dtype, int64_t elements);

}  // namespace mneme
