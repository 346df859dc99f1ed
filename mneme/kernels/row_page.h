// How attention rows (one key and one value of one KV head at one position) lie in memory: in pages
// of 64 rows, in one of five encodings. A page belongs to one layer and one KV head, so heads may
// hold different numbers of rows.
//
// Layout of a page (K first, then V; every part starts on a 64-byte boundary; f16 scales and biases
// are f32 where the format says f32_scales):
//   K, float encodings   [Dk, 64]             transposed: one dimension of 64 rows is contiguous
//   K, q8                [Dk/4, 64, 4] codes  four dimensions of a row in the bytes of one word;
//                                             then scales [Dk/group, 64] f16, biases likewise
//   K, q4                [Dk/8, 64, 4] bytes  dimensions 8j..8j+3 of a row in the low nibbles of
//                                             its word of line j, 8j+4..8j+7 in the high ones; then
//                                             scales, biases
//   V, float encodings   [64, Dv]
//   V, q8                [16, Dv, 4] codes    four rows of a dimension in the bytes of one word;
//                                             then scales, biases [Dv/group, 64] f16
//   V, q4                [8, Dv, 4] bytes     rows 8j..8j+3 in the low nibbles of line j, 8j+4..
//                                             8j+7 in the high ones; then scales, biases
// Codes of a value whose scale is negative are kept as 15 - code (q8: 255 - code), so that weights
// times magnitudes of scales multiply them.
//
// Why transposed keys: a score then accumulates over dimensions in one fixed order with 64 rows in
// the lanes, so it does not depend on how many queries are answered together, and needs no
// horizontal sums. Why words of four codes: that is what byte dot-product instructions add up, and
// unpacking nibbles is a mask and a shift. pack_row hands a row out in the order of papers/05.
//
// Quantisation is papers/05 sections 3.1-3.2 (affine groups along the head dimension, arithmetic in
// float32, scale and bias rounded to the storage type after the codes were made). Tests:
// row_page_test.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace mneme {

inline constexpr int64_t kPageRows = 64;
inline constexpr int64_t kMaxHeadDim = 512;

enum class RowEncoding : uint8_t { kF32, kF16, kBF16, kQ8, kQ4 };

std::string_view row_encoding_name(RowEncoding encoding);  // "f32", "f16", "bf16", "q8", "q4"

struct RowFormat {
  RowEncoding encoding = RowEncoding::kF16;
  int64_t k_dim = 0;  // 1..kMaxHeadDim; a multiple of `group` for q8 and q4
  int64_t v_dim = 0;
  int64_t group = 64;  // elements that share scale and bias; q8 and q4 only; whole 32-bit words
  // Store scales and biases as float32: 4 more bytes a group and no rounding of them, so that a
  // page answers exactly as a float32 model's quantised cache of papers/05 does. q8 and q4 only.
  bool f32_scales = false;
  // Codes by least squares (affine_fit.h) instead of by the edge rule of papers/05: a smaller error
  // from the same bytes. q8 and q4 only, whose group it must divide by 16.
  bool fitted = false;

  bool quantised() const { return encoding == RowEncoding::kQ8 || encoding == RowEncoding::kQ4; }
  // Throws Error naming the dimension and the group that do not fit (and offers a group that
  // would).
  void validate() const;
  int64_t page_bytes() const;
  // Bytes of one row's key and value, without padding: what bytes-per-token is computed from, and
  // the size of a packed row.
  int64_t row_bytes() const;
  bool operator==(const RowFormat&) const = default;
};

// Byte offsets of the parts of a page; K codes or values start at 0. The offsets of scales and
// biases are meaningless for float encodings.
struct PageLayout {
  int64_t k_scales = 0, k_biases = 0;
  int64_t v = 0, v_scales = 0, v_biases = 0;
  int64_t bytes = 0;
};
PageLayout page_layout(const RowFormat& format);

// Encodes one row into slot `row` (0..63) of `page` (64-byte aligned, page_bytes()).
// k [k_dim], v [v_dim]. Throws Error when a value is NaN or infinite, or does not fit the encoding
// (f16: |x| > 65504); the slot's content is then undefined.
void write_row(const RowFormat& format, std::byte* page, int64_t row, const float* k,
               const float* v);

// The same for the key alone; the value keeps its bits.
void write_key(const RowFormat& format, std::byte* page, int64_t row, const float* k);

// Decodes slot `row` of `page` into k [k_dim] and v [v_dim], those that are not null.
void read_row(const RowFormat& format, const std::byte* page, int64_t row, float* k, float* v);

// Moves the stored bits of a row to another slot, without decoding: eviction and compaction never
// re-quantise.
void copy_row(const RowFormat& format, const std::byte* from, int64_t from_row, std::byte* to,
              int64_t to_row);

// The stored bits of a row as row_bytes() bytes, for files: k then v, each as its values, or (q8,
// q4) the words of papers/05 section 3.2, scales, biases. unpack_row(pack_row(row)) == row.
void pack_row(const RowFormat& format, const std::byte* page, int64_t row, std::byte* packed);
void unpack_row(const RowFormat& format, const std::byte* packed, std::byte* page, int64_t row);

}  // namespace mneme
