#include "mneme/core/dtype.h"

#include <array>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"

namespace mneme {
namespace {

constexpr std::array<DTypeInfo, 21> kInfos = {{
    {DType::kF32, "F32", 1, 4},       {DType::kF16, "F16", 1, 2},
    {DType::kBF16, "BF16", 1, 2},     {DType::kF64, "F64", 1, 8},
    {DType::kI8, "I8", 1, 1},         {DType::kI16, "I16", 1, 2},
    {DType::kI32, "I32", 1, 4},       {DType::kI64, "I64", 1, 8},
    {DType::kU8, "U8", 1, 1},         {DType::kU16, "U16", 1, 2},
    {DType::kU32, "U32", 1, 4},       {DType::kU64, "U64", 1, 8},
    {DType::kBool, "BOOL", 1, 1},     {DType::kQ4_0, "Q4_0", 32, 18},
    {DType::kQ4_1, "Q4_1", 32, 20},   {DType::kQ5_0, "Q5_0", 32, 22},
    {DType::kQ5_1, "Q5_1", 32, 24},   {DType::kQ8_0, "Q8_0", 32, 34},
    {DType::kQ4_K, "Q4_K", 256, 144}, {DType::kQ5_K, "Q5_K", 256, 176},
    {DType::kQ6_K, "Q6_K", 256, 210},
}};

constexpr bool in_enum_order() {
  for (size_t i = 0; i < kInfos.size(); ++i) {
    if (static_cast<size_t>(kInfos[i].dtype) != i) return false;
  }
  return true;
}
static_assert(in_enum_order());

}  // namespace

const DTypeInfo& dtype_info(DType dtype) {
  const auto index = static_cast<size_t>(dtype);
  MNEME_ASSERT(index < kInfos.size());
  return kInfos[index];
}

std::optional<DType> dtype_from_name(std::string_view name) {
  for (const DTypeInfo& info : kInfos) {
    if (info.name == name) return info.dtype;
  }
  return std::nullopt;
}

int64_t dtype_row_bytes(DType dtype, int64_t elements) {
  const DTypeInfo& info = dtype_info(dtype);
  MNEME_CHECK(elements >= 0 && elements % info.block_elements == 0, info.name, ": ", elements,
              " elements do not fill blocks of ", info.block_elements);
  return checked_mul(elements / info.block_elements, info.block_bytes, "dtype_row_bytes");
}

}  // namespace mneme
