#include "mneme/kernels/row_page.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "mneme/core/error.h"
#include "mneme/core/half.h"
#include "mneme/kernels/affine_fit.h"
#include "mneme/kernels/affine_quant.h"
#include "mneme/kernels/row_convert.h"
#include "mneme/kernels/row_layout.h"

namespace mneme {
namespace {

template <typename T>
T load(const std::byte* from, int64_t index) {
  T value;
  std::memcpy(&value, from + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

template <typename T>
void store(std::byte* to, int64_t index, T value) {
  std::memcpy(to + index * static_cast<int64_t>(sizeof(T)), &value, sizeof(T));
}

float load_scale(const RowFormat& format, const std::byte* from, int64_t index) {
  return format.f32_scales ? load<float>(from, index) : f16_to_float(load<uint16_t>(from, index));
}

void store_scale(const RowFormat& format, std::byte* to, int64_t index, float value) {
  if (format.f32_scales) {
    store(to, index, value);
    return;
  }
  MNEME_CHECK(std::abs(value) <= 65504.0f,
              "write_row: f16 scales and biases hold values up to 65504, got ", value);
  store(to, index, float_to_f16(value));
}

// Codes of values whose scale is negative are kept as top - code.
void turn_codes(const RowFormat& format, const std::byte* page, const RowPart& part, int64_t row,
                uint8_t* codes) {
  if (part.transposed) return;
  const auto top = static_cast<uint8_t>((1 << element_bits(format.encoding)) - 1);
  for (int64_t g = 0; g < part.dim / format.group; ++g) {
    const int64_t index = RowPart::group_index(row, g);
    if (!std::signbit(load_scale(format, page + part.scales, index))) continue;
    uint8_t* group = codes + g * format.group;
    for (int64_t i = 0; i < format.group; ++i) group[i] = static_cast<uint8_t>(top - group[i]);
  }
}

// Codes of a row [dim] to their places, and back. The scales must be in theirs.
void store_codes(const RowFormat& format, std::byte* page, const RowPart& part, int64_t row,
                 uint8_t* codes) {
  turn_codes(format, page, part, row, codes);
  auto* bytes = reinterpret_cast<uint8_t*>(page + part.values);
  const int64_t bits = element_bits(format.encoding);
  if (part.transposed) {
    bytes += 4 * row;
    for (int64_t i = 0; i < part.dim; i += 32 / bits, bytes += 4 * kPageRows) {
      for (int64_t j = 0; j < 4; ++j) {
        const unsigned upper = bits == 4 ? codes[i + j + 4] << 4 : 0;
        bytes[j] = static_cast<uint8_t>(codes[i + j] | upper);
      }
    }
    return;
  }
  const RowPart::Place at = part.code(row, 0, bits);
  bytes += at.byte;
  const unsigned others = bits == 4 ? 0xf0u >> at.shift : 0;  // the nibbles of another row
  for (int64_t i = 0; i < part.dim; ++i) {
    bytes[4 * i] = static_cast<uint8_t>((bytes[4 * i] & others) | (codes[i] << at.shift));
  }
}

void load_codes(const RowFormat& format, const std::byte* page, const RowPart& part, int64_t row,
                uint8_t* codes) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(page + part.values);
  const int64_t bits = element_bits(format.encoding);
  const unsigned top = (1u << bits) - 1;
  for (int64_t i = 0; i < part.dim; ++i) {
    const RowPart::Place at = part.code(row, i, bits);
    codes[i] = static_cast<uint8_t>((bytes[at.byte] >> at.shift) & top);
  }
  turn_codes(format, page, part, row, codes);
}

// Throws when a value of x does not fit `limit`, the largest magnitude as bits of a float.
void check_values(const RowFormat& format, const float* x, int64_t dim, uint32_t limit) {
  if (largest_magnitude(x, dim) <= limit) return;
  for (int64_t i = 0; i < dim; ++i) {
    MNEME_CHECK(std::isfinite(x[i]), "write_row: expected finite values, got ", x[i],
                " at dimension ", i);
    MNEME_CHECK((std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu) <= limit,
                "write_row: ", row_encoding_name(format.encoding), " rows hold values up to ",
                std::bit_cast<float>(limit), ", got ", x[i], " at dimension ", i);
  }
}

// Values of a float encoding [dim], one after the other, to their places, and back.
template <typename T>
void store_values(std::byte* page, const RowPart& part, int64_t row, const std::byte* values) {
  std::byte* to = page + part.values + part.element(row, 0) * static_cast<int64_t>(sizeof(T));
  if (!part.transposed) {
    std::memcpy(to, values, static_cast<size_t>(part.dim) * sizeof(T));
    return;
  }
  for (int64_t i = 0; i < part.dim; ++i) store(to, i * kPageRows, load<T>(values, i));
}

template <typename T>
void load_values(const std::byte* page, const RowPart& part, int64_t row, std::byte* values) {
  const std::byte* from =
      page + part.values + part.element(row, 0) * static_cast<int64_t>(sizeof(T));
  if (!part.transposed) {
    std::memcpy(values, from, static_cast<size_t>(part.dim) * sizeof(T));
    return;
  }
  for (int64_t i = 0; i < part.dim; ++i) store(values, i, load<T>(from, i * kPageRows));
}

void write_half(const RowFormat& format, std::byte* page, const RowPart& part, int64_t row,
                const float* x) {
  const int64_t dim = part.dim;
  uint16_t halves[kMaxHeadDim];
  uint8_t codes[kMaxHeadDim];
  switch (format.encoding) {
    case RowEncoding::kF32:
      check_values(format, x, dim, 0x7f7fffffu);
      store_values<float>(page, part, row, reinterpret_cast<const std::byte*>(x));
      break;
    case RowEncoding::kF16:
      check_values(format, x, dim, 0x477fe000u);  // 65504
      floats_to_f16(x, dim, halves);
      store_values<uint16_t>(page, part, row, reinterpret_cast<const std::byte*>(halves));
      break;
    case RowEncoding::kBF16:
      check_values(format, x, dim, 0x7f7f7fffu);  // the next one rounds to infinity
      floats_to_bf16(x, dim, halves);
      store_values<uint16_t>(page, part, row, reinterpret_cast<const std::byte*>(halves));
      break;
    case RowEncoding::kQ8:
    case RowEncoding::kQ4:
      for (int64_t g = 0; g < dim / format.group; ++g) {
        const int64_t first = g * format.group;
        const auto quantize = format.fitted ? affine_fit_group : affine_quantize_group;
        const AffineParams params =
            quantize(x + first, format.group, static_cast<int>(element_bits(format.encoding)),
                     codes + first);
        store_scale(format, page + part.scales, RowPart::group_index(row, g), params.scale);
        store_scale(format, page + part.biases, RowPart::group_index(row, g), params.bias);
      }
      store_codes(format, page, part, row, codes);
      break;
  }
}

void read_half(const RowFormat& format, const std::byte* page, const RowPart& part, int64_t row,
               float* x) {
  uint8_t codes[kMaxHeadDim];
  if (format.quantised()) load_codes(format, page, part, row, codes);
  for (int64_t i = 0; i < part.dim; ++i) {
    const int64_t index = part.element(row, i);
    if (format.quantised()) {
      const int64_t group = RowPart::group_index(row, i / format.group);
      x[i] = load_scale(format, page + part.scales, group) * static_cast<float>(codes[i]) +
             load_scale(format, page + part.biases, group);
    } else if (format.encoding == RowEncoding::kF32) {
      x[i] = load<float>(page + part.values, index);
    } else {
      const uint16_t bits = load<uint16_t>(page + part.values, index);
      x[i] = format.encoding == RowEncoding::kF16 ? f16_to_float(bits) : bf16_to_float(bits);
    }
  }
}

// Calls body(offset in the page, offset in the packed half, bytes) for each scale and bias of a
// half row. Returns the bytes of a packed half.
template <typename Body>
int64_t for_each_factor(const RowFormat& format, const RowPart& part, int64_t row, Body&& body) {
  const int64_t size = scale_bytes(format);
  int64_t packed = part.dim * element_bits(format.encoding) / 8;
  for (const int64_t table : {part.scales, part.biases}) {
    for (int64_t g = 0; g < part.dim / format.group; ++g, packed += size) {
      body(table + RowPart::group_index(row, g) * size, packed, size);
    }
  }
  return packed;
}

std::byte* pack_half(const RowFormat& format, const std::byte* page, const RowPart& part,
                     int64_t row, std::byte* packed) {
  if (format.encoding == RowEncoding::kF32) {
    load_values<uint32_t>(page, part, row, packed);
    return packed + part.dim * int64_t{sizeof(uint32_t)};
  }
  if (!format.quantised()) {
    load_values<uint16_t>(page, part, row, packed);
    return packed + part.dim * int64_t{sizeof(uint16_t)};
  }
  uint8_t codes[kMaxHeadDim];
  load_codes(format, page, part, row, codes);
  for (int64_t i = 0; i < part.dim; ++i) {
    if (format.encoding == RowEncoding::kQ8) {
      packed[i] = std::byte{codes[i]};
    } else if (i % 2 == 0) {
      packed[i / 2] = static_cast<std::byte>(codes[i] | (codes[i + 1] << 4));
    }
  }
  return packed + for_each_factor(format, part, row, [&](int64_t at, int64_t to, int64_t bytes) {
           std::memcpy(packed + to, page + at, static_cast<size_t>(bytes));
         });
}

const std::byte* unpack_half(const RowFormat& format, const std::byte* packed, const RowPart& part,
                             std::byte* page, int64_t row) {
  if (format.encoding == RowEncoding::kF32) {
    store_values<uint32_t>(page, part, row, packed);
    return packed + part.dim * int64_t{sizeof(uint32_t)};
  }
  if (!format.quantised()) {
    store_values<uint16_t>(page, part, row, packed);
    return packed + part.dim * int64_t{sizeof(uint16_t)};
  }
  const int64_t size =
      for_each_factor(format, part, row, [&](int64_t at, int64_t from, int64_t bytes) {
        std::memcpy(page + at, packed + from, static_cast<size_t>(bytes));
      });
  uint8_t codes[kMaxHeadDim];
  for (int64_t i = 0; i < part.dim; ++i) {
    const auto byte =
        std::to_integer<uint8_t>(packed[format.encoding == RowEncoding::kQ8 ? i : i / 2]);
    codes[i] = format.encoding == RowEncoding::kQ8
                   ? byte
                   : static_cast<uint8_t>((byte >> (i % 2 * 4)) & 15);
  }
  store_codes(format, page, part, row, codes);
  return packed + size;
}

void check_slot(const char* what, int64_t row) {
  MNEME_CHECK(row >= 0 && row < kPageRows, what, ": expected a slot of 0 to ", kPageRows - 1,
              ", got ", row);
}

}  // namespace

void write_row(const RowFormat& format, std::byte* page, int64_t row, const float* k,
               const float* v) {
  check_slot("write_row", row);
  write_half(format, page, key_part(format), row, k);
  write_half(format, page, value_part(format), row, v);
}

void write_key(const RowFormat& format, std::byte* page, int64_t row, const float* k) {
  check_slot("write_key", row);
  write_half(format, page, key_part(format), row, k);
}

void read_row(const RowFormat& format, const std::byte* page, int64_t row, float* k, float* v) {
  check_slot("read_row", row);
  if (k != nullptr) read_half(format, page, key_part(format), row, k);
  if (v != nullptr) read_half(format, page, value_part(format), row, v);
}

void pack_row(const RowFormat& format, const std::byte* page, int64_t row, std::byte* packed) {
  check_slot("pack_row", row);
  pack_half(format, page, value_part(format), row,
            pack_half(format, page, key_part(format), row, packed));
}

void unpack_row(const RowFormat& format, const std::byte* packed, std::byte* page, int64_t row) {
  check_slot("unpack_row", row);
  unpack_half(format, unpack_half(format, packed, key_part(format), page, row), value_part(format),
              page, row);
}

void copy_row(const RowFormat& format, const std::byte* from, int64_t from_row, std::byte* to,
              int64_t to_row) {
  check_slot("copy_row", from_row);
  check_slot("copy_row", to_row);
  std::byte packed[2 * kMaxHeadDim * sizeof(float)];
  pack_row(format, from, from_row, packed);
  unpack_row(format, packed, to, to_row);
}

}  // namespace mneme
