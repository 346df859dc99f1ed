// Where the elements of a row lie in its page (kernels/row_page.h draws the picture): what writing,
// reading and moving rows share. Only row_page.cc and row_format.cc need it. Tests:
// row_page_test.cc.
#pragma once

#include <cstddef>
#include <cstdint>

#include "mneme/kernels/row_page.h"

namespace mneme {

// Bits of one element. Throws Error on a number that is no encoding.
int64_t element_bits(RowEncoding encoding);
// Bytes of a scale or a bias.
int64_t scale_bytes(const RowFormat& format);

// The keys or the values of a page.
struct RowPart {
  int64_t dim;
  bool transposed;                 // K
  int64_t values, scales, biases;  // byte offsets in the page

  // Index of element i among those of a float encoding.
  int64_t element(int64_t row, int64_t i) const {
    return transposed ? i * kPageRows + row : row * dim + i;
  }

  // Byte (from `values` on) and bit of code i. Four codes that are multiplied together fill one
  // 32-bit word: four dimensions of a key, four rows of a value.
  struct Place {
    int64_t byte;
    int shift;
  };
  Place code(int64_t row, int64_t i, int64_t bits) const {
    const int64_t summed = transposed ? i : row, column = transposed ? row : i;
    const int64_t columns = transposed ? kPageRows : dim;
    const int64_t quads = 8 / bits;  // words that share their bytes
    const int64_t line = summed / (4 * quads);
    return {4 * (line * columns + column) + summed % 4,
            static_cast<int>(summed / 4 % quads * bits)};
  }

  // Scales and biases lie [groups, 64].
  static int64_t group_index(int64_t row, int64_t g) { return g * kPageRows + row; }
};

RowPart key_part(const RowFormat& format);
RowPart value_part(const RowFormat& format);

}  // namespace mneme
