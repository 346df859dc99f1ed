#include "mneme/kernels/row_page.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/core/half.h"
#include "mneme/kernels/affine_fit.h"
#include "mneme/kernels/affine_quant.h"
#include "mneme/kernels/row_convert.h"

namespace mneme {
namespace {

constexpr int64_t kLine = 64;  // parts start on multiples of it

// Bits of one element.
int64_t element_bits(RowEncoding encoding) {
  switch (encoding) {
    case RowEncoding::kF32:
      return 32;
    case RowEncoding::kF16:
    case RowEncoding::kBF16:
      return 16;
    case RowEncoding::kQ8:
      return 8;
    case RowEncoding::kQ4:
      return 4;
  }
  fail("row encoding: expected f32, f16, bf16, q8 or q4, got number ", static_cast<int>(encoding));
}

int64_t scale_bytes(const RowFormat& format) { return format.f32_scales ? 4 : 2; }

// Elements of one half (key or value) of a row, addressed the way its page stores them.
struct Half {
  int64_t dim;
  bool transposed;  // K

  int64_t element(int64_t row, int64_t i) const {
    return transposed ? i * kPageRows + row : row * dim + i;
  }
  // Where code i of a q4 row lives: byte and shift.
  struct Nibble {
    int64_t byte;
    int shift;
  };
  Nibble nibble(int64_t row, int64_t i) const {
    if (transposed)
      return {i / 2 * kPageRows + 4 * (row % 16) + row / 16, static_cast<int>(i % 2) * 4};
    const int64_t block = i / 32 * 32;
    const int64_t half = std::min<int64_t>(32, dim - block) / 2;
    const int64_t within = i - block;
    return {row * dim / 2 + block / 2 + within % half, within >= half ? 4 : 0};
  }
};

// Scales and biases of keys and values alike lie [groups, 64].
int64_t group_index(int64_t row, int64_t g) { return g * kPageRows + row; }

struct Part {
  Half half;
  int64_t values, scales, biases;  // byte offsets
};

void parts_of(const RowFormat& format, Part* k, Part* v) {
  const PageLayout layout = page_layout(format);
  *k = {{format.k_dim, true}, 0, layout.k_scales, layout.k_biases};
  *v = {{format.v_dim, false}, layout.v, layout.v_scales, layout.v_biases};
}

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

uint8_t load_code(const RowFormat& format, const std::byte* page, const Part& part, int64_t row,
                  int64_t i) {
  if (format.encoding == RowEncoding::kQ8) {
    return static_cast<uint8_t>(load<uint8_t>(page + part.values, part.half.element(row, i)) ^
                                0x80u);
  }
  const Half::Nibble at = part.half.nibble(row, i);
  return static_cast<uint8_t>((load<uint8_t>(page + part.values, at.byte) >> at.shift) & 15u);
}

void store_code(const RowFormat& format, std::byte* page, const Part& part, int64_t row, int64_t i,
                uint8_t code) {
  if (format.encoding == RowEncoding::kQ8) {
    store(page + part.values, part.half.element(row, i), static_cast<uint8_t>(code ^ 0x80u));
    return;
  }
  const Half::Nibble at = part.half.nibble(row, i);
  const uint32_t old = load<uint8_t>(page + part.values, at.byte);
  store(page + part.values, at.byte,
        static_cast<uint8_t>((old & (0xf0u >> at.shift)) | (uint32_t{code} << at.shift)));
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

// Codes of a whole half row to their bytes; both nibbles of a q4 byte belong to one row.
void store_codes(const RowFormat& format, std::byte* page, const Part& part, int64_t row,
                 const uint8_t* codes) {
  auto* bytes = reinterpret_cast<uint8_t*>(page + part.values);
  const int64_t dim = part.half.dim;
  if (format.encoding == RowEncoding::kQ8) {
    const int64_t step = part.half.transposed ? kPageRows : 1;
    bytes += part.half.element(row, 0);
    for (int64_t i = 0; i < dim; ++i) bytes[i * step] = static_cast<uint8_t>(codes[i] ^ 0x80u);
  } else if (part.half.transposed) {
    bytes += part.half.nibble(row, 0).byte;
    for (int64_t i = 0; i < dim; i += 2) {
      bytes[i / 2 * kPageRows] = static_cast<uint8_t>(codes[i] | (codes[i + 1] << 4));
    }
  } else {
    bytes += row * dim / 2;
    for (int64_t block = 0; block < dim; block += 32) {
      const int64_t half = std::min<int64_t>(32, dim - block) / 2;
      for (int64_t b = 0; b < half; ++b) {
        bytes[block / 2 + b] =
            static_cast<uint8_t>(codes[block + b] | (codes[block + half + b] << 4));
      }
    }
  }
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

template <typename T>
void store_values(std::byte* page, const Part& part, int64_t row, const T* values) {
  const int64_t first = part.half.element(row, 0);
  if (!part.half.transposed) {
    std::memcpy(page + part.values + first * static_cast<int64_t>(sizeof(T)), values,
                static_cast<size_t>(part.half.dim) * sizeof(T));
    return;
  }
  for (int64_t i = 0; i < part.half.dim; ++i) {
    store(page + part.values, first + i * kPageRows, values[i]);
  }
}

void write_half(const RowFormat& format, std::byte* page, const Part& part, int64_t row,
                const float* x) {
  const int64_t dim = part.half.dim;
  uint16_t halves[kMaxHeadDim];
  uint8_t codes[kMaxHeadDim];
  switch (format.encoding) {
    case RowEncoding::kF32:
      check_values(format, x, dim, 0x7f7fffffu);
      store_values(page, part, row, x);
      break;
    case RowEncoding::kF16:
      check_values(format, x, dim, 0x477fe000u);  // 65504
      floats_to_f16(x, dim, halves);
      store_values(page, part, row, halves);
      break;
    case RowEncoding::kBF16:
      check_values(format, x, dim, 0x7f7f7fffu);  // the next one rounds to infinity
      floats_to_bf16(x, dim, halves);
      store_values(page, part, row, halves);
      break;
    case RowEncoding::kQ8:
    case RowEncoding::kQ4:
      for (int64_t g = 0; g < dim / format.group; ++g) {
        const int64_t first = g * format.group;
        const auto quantize = format.fitted ? affine_fit_group : affine_quantize_group;
        const AffineParams params =
            quantize(x + first, format.group, static_cast<int>(element_bits(format.encoding)),
                     codes + first);
        store_scale(format, page + part.scales, group_index(row, g), params.scale);
        store_scale(format, page + part.biases, group_index(row, g), params.bias);
      }
      store_codes(format, page, part, row, codes);
      break;
  }
}

void read_half(const RowFormat& format, const std::byte* page, const Part& part, int64_t row,
               float* x) {
  const int64_t dim = part.half.dim;
  for (int64_t i = 0; i < dim; ++i) {
    const int64_t index = part.half.element(row, i);
    if (format.quantised()) {
      const int64_t group = group_index(row, i / format.group);
      x[i] = load_scale(format, page + part.scales, group) *
                 static_cast<float>(load_code(format, page, part, row, i)) +
             load_scale(format, page + part.biases, group);
    } else if (format.encoding == RowEncoding::kF32) {
      x[i] = load<float>(page + part.values, index);
    } else {
      const uint16_t bits = load<uint16_t>(page + part.values, index);
      x[i] = format.encoding == RowEncoding::kF16 ? f16_to_float(bits) : bf16_to_float(bits);
    }
  }
}

std::byte* pack_half(const RowFormat& format, const std::byte* page, const Part& part, int64_t row,
                     std::byte* packed) {
  const int64_t dim = part.half.dim;
  const int64_t bits = element_bits(format.encoding);
  if (!format.quantised()) {
    for (int64_t i = 0; i < dim; ++i) {
      std::memcpy(packed + i * bits / 8, page + part.values + part.half.element(row, i) * bits / 8,
                  bits / 8);
    }
    return packed + dim * bits / 8;
  }
  for (int64_t i = 0; i < dim; i += 8 / bits) {
    uint8_t byte = load_code(format, page, part, row, i);
    if (bits == 4)
      byte = static_cast<uint8_t>(byte | (load_code(format, page, part, row, i + 1) << 4));
    *packed++ = std::byte{byte};
  }
  const int64_t groups = dim / format.group;
  const int64_t size = scale_bytes(format);
  for (const int64_t table : {part.scales, part.biases}) {
    for (int64_t g = 0; g < groups; ++g, packed += size) {
      std::memcpy(packed, page + table + group_index(row, g) * size, size);
    }
  }
  return packed;
}

const std::byte* unpack_half(const RowFormat& format, const std::byte* packed, const Part& part,
                             std::byte* page, int64_t row) {
  const int64_t dim = part.half.dim;
  const int64_t bits = element_bits(format.encoding);
  if (!format.quantised()) {
    for (int64_t i = 0; i < dim; ++i) {
      std::memcpy(page + part.values + part.half.element(row, i) * bits / 8, packed + i * bits / 8,
                  bits / 8);
    }
    return packed + dim * bits / 8;
  }
  for (int64_t i = 0; i < dim; i += 8 / bits) {
    const uint8_t byte = std::to_integer<uint8_t>(*packed++);
    if (bits == 8) {
      store_code(format, page, part, row, i, byte);
    } else {
      store_code(format, page, part, row, i, byte & 15u);
      store_code(format, page, part, row, i + 1, static_cast<uint8_t>(byte >> 4));
    }
  }
  const int64_t groups = dim / format.group;
  const int64_t size = scale_bytes(format);
  for (const int64_t table : {part.scales, part.biases}) {
    for (int64_t g = 0; g < groups; ++g, packed += size) {
      std::memcpy(page + table + group_index(row, g) * size, packed, size);
    }
  }
  return packed;
}

void check_slot(const char* what, int64_t row) {
  MNEME_CHECK(row >= 0 && row < kPageRows, what, ": expected a slot of 0 to ", kPageRows - 1,
              ", got ", row);
}

}  // namespace

std::string_view row_encoding_name(RowEncoding encoding) {
  switch (encoding) {
    case RowEncoding::kF32:
      return "f32";
    case RowEncoding::kF16:
      return "f16";
    case RowEncoding::kBF16:
      return "bf16";
    case RowEncoding::kQ8:
      return "q8";
    case RowEncoding::kQ4:
      return "q4";
  }
  fail("row encoding: expected f32, f16, bf16, q8 or q4, got number ", static_cast<int>(encoding));
}

void RowFormat::validate() const {
  const std::string_view name = row_encoding_name(encoding);
  for (const int64_t dim : {k_dim, v_dim}) {
    MNEME_CHECK(dim >= 1 && dim <= kMaxHeadDim, name, " rows: expected a head dimension of 1 to ",
                kMaxHeadDim, ", got ", dim);
  }
  if (!quantised()) return;
  const int64_t unit = 32 / element_bits(encoding);
  const auto fits = [&](int64_t g) {
    return g > 0 && g % unit == 0 && k_dim % g == 0 && v_dim % g == 0;
  };
  if (fits(group)) return;
  int64_t offer = 128;
  while (offer > 1 && !fits(offer)) offer /= 2;
  MNEME_CHECK(offer > 1, name, " rows: head dimensions ", k_dim, " and ", v_dim,
              " have no common group that is a multiple of ", unit, "; use f16 rows");
  fail(name, " rows: head dimensions ", k_dim, " and ", v_dim, " do not divide into groups of ",
       group, " (a multiple of ", unit, "); group=", offer, " does");
}

PageLayout page_layout(const RowFormat& format) {
  const int64_t bits = element_bits(format.encoding);
  PageLayout layout;
  const auto lines = [](int64_t bytes) { return checked_round_up(bytes, kLine, "page"); };
  int64_t at = lines(format.k_dim * kPageRows * bits / 8);
  const auto tables = [&](int64_t dim, int64_t* scales, int64_t* biases) {
    const int64_t bytes = lines(dim / format.group * kPageRows * scale_bytes(format));
    *scales = at;
    *biases = at + bytes;
    at += 2 * bytes;
  };
  if (format.quantised()) tables(format.k_dim, &layout.k_scales, &layout.k_biases);
  layout.v = at;
  at += lines(format.v_dim * kPageRows * bits / 8);
  if (format.quantised()) tables(format.v_dim, &layout.v_scales, &layout.v_biases);
  layout.bytes = at;
  return layout;
}

int64_t RowFormat::page_bytes() const {
  validate();
  return page_layout(*this).bytes;
}

int64_t RowFormat::row_bytes() const {
  validate();
  const int64_t values = (k_dim + v_dim) * element_bits(encoding) / 8;
  return quantised() ? values + (k_dim + v_dim) / group * 2 * scale_bytes(*this) : values;
}

void write_row(const RowFormat& format, std::byte* page, int64_t row, const float* k,
               const float* v) {
  check_slot("write_row", row);
  Part k_part, v_part;
  parts_of(format, &k_part, &v_part);
  write_half(format, page, k_part, row, k);
  write_half(format, page, v_part, row, v);
}

void read_row(const RowFormat& format, const std::byte* page, int64_t row, float* k, float* v) {
  check_slot("read_row", row);
  Part k_part, v_part;
  parts_of(format, &k_part, &v_part);
  read_half(format, page, k_part, row, k);
  read_half(format, page, v_part, row, v);
}

void pack_row(const RowFormat& format, const std::byte* page, int64_t row, std::byte* packed) {
  check_slot("pack_row", row);
  Part k_part, v_part;
  parts_of(format, &k_part, &v_part);
  pack_half(format, page, v_part, row, pack_half(format, page, k_part, row, packed));
}

void unpack_row(const RowFormat& format, const std::byte* packed, std::byte* page, int64_t row) {
  check_slot("unpack_row", row);
  Part k_part, v_part;
  parts_of(format, &k_part, &v_part);
  unpack_half(format, unpack_half(format, packed, k_part, page, row), v_part, page, row);
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
