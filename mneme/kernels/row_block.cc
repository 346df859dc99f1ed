#include "mneme/kernels/row_block.h"

#include <cmath>
#include <cstring>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/core/half.h"
#include "mneme/kernels/row_convert.h"

namespace mneme {
namespace {

constexpr int64_t kOverhang = 16;  // elements of the widest vector of floats

float stored(DType dtype, const std::byte* from) {
  if (dtype == DType::kF16) {
    uint16_t bits;
    std::memcpy(&bits, from, sizeof bits);
    return f16_to_float(bits);
  }
  float value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

void store(DType dtype, float value, std::byte* to) {
  if (dtype == DType::kF16) {
    const uint16_t bits = float_to_f16(value);
    std::memcpy(to, &bits, sizeof bits);
  } else {
    std::memcpy(to, &value, sizeof value);
  }
}

}  // namespace

void RowBlock::validate() const {
  MNEME_CHECK(dtype == DType::kF32 || dtype == DType::kF16,
              "row block: rows are stored as F32 or F16, got ", dtype_name(dtype));
  MNEME_CHECK(rows > 0 && rows <= 1 << 20, "row block: rows must be 1 to ", 1 << 20, ", got ",
              rows);
  MNEME_CHECK(k_dim > 0 && k_dim <= 1 << 16 && v_dim >= 0 && v_dim <= 1 << 16,
              "row block: head sizes must be 1 to ", 1 << 16, ", got ", k_dim, " and ", v_dim);
}

int64_t RowBlock::bytes() const {
  return checked_round_up((rows * (k_dim + v_dim) + kOverhang) * element_bytes(), 64, "row block");
}

void RowBlock::write_row(int64_t row, const float* k, const float* v, std::byte* block) const {
  MNEME_CHECK(storable(dtype, k, k_dim) && (v_dim == 0 || storable(dtype, v, v_dim)), "row ", row,
              " of a block holds a number that ", dtype_name(dtype), " cannot store");
  const int64_t size = element_bytes();
  for (int64_t i = 0; i < k_dim; ++i) store(dtype, k[i], block + (i * rows + row) * size);
  std::byte* const values = block + key_bytes() + row * v_dim * size;
  for (int64_t i = 0; i < v_dim; ++i) store(dtype, v[i], values + i * size);
}

void RowBlock::read_key(const std::byte* block, int64_t row, float* k) const {
  for (int64_t i = 0; i < k_dim; ++i)
    k[i] = stored(dtype, block + (i * rows + row) * element_bytes());
}

bool RowBlock::finite(const std::byte* block, int64_t count) const {
  for (int64_t row = 0; row < count; ++row) {
    for (int64_t i = 0; i < k_dim; ++i)
      if (!std::isfinite(stored(dtype, block + (i * rows + row) * element_bytes()))) return false;
  }
  const std::byte* const values = block + key_bytes();
  for (int64_t i = 0; i < count * v_dim; ++i)
    if (!std::isfinite(stored(dtype, values + i * element_bytes()))) return false;
  return true;
}

}  // namespace mneme
