// How attention rows (one key and one value of one KV head at one position) lie in memory: in pages
// of 64 rows, in one of five encodings. A page belongs to one layer and one KV head, so heads may
// hold different numbers of rows.
//
// Layout of a page (K first, then V; every part starts on a 64-byte boundary):
//   K, float encodings   [Dk, 64]            transposed: one dimension of 64 rows is contiguous
//   K, q8                [Dk, 64] bytes      transposed codes, then scales [Dk/group, 64] f16,
//   biases [Dk/group, 64] f16 K, q4                [Dk/2, 64] bytes    byte j of a row holds
//   dimension 2j in its low nibble and 2j+1 in its high one
//                                            (the row's bytes of papers/05, section 3.2,
//                                            transposed), then scales, biases
//   V                    [64, Dv]            the same encodings row by row; scales [64, Dv/group],
//   biases [64, Dv/group]
//
// Why transposed keys: a score then accumulates over dimensions in one fixed order with 64 rows in
// the lanes, so it does not depend on how many queries are answered together, and needs no
// horizontal sums.
//
// Quantisation is papers/05 sections 3.1-3.2 (affine groups along the head dimension, arithmetic in
// float32, scale and bias stored as f16 after the codes were made). Tests: row_page_test.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace mneme {

inline constexpr int64_t kPageRows = 64;

enum class RowEncoding : uint8_t { kF32, kF16, kBF16, kQ8, kQ4 };

std::string_view row_encoding_name(RowEncoding encoding);  // "f32", "f16", "bf16", "q8", "q4"

struct RowFormat {
  RowEncoding encoding = RowEncoding::kF16;
  int64_t k_dim = 0;  // 1..512; even for q4; a multiple of `group` for q8 and q4
  int64_t v_dim = 0;
  int64_t group = 64;  // elements that share scale and bias; q8 and q4 only

  // Throws Error naming the dimension and the group that do not fit (and offers a group that
  // would).
  void validate() const;
  int64_t page_bytes() const;
  // Bytes of one row's key and value, without padding: what bytes-per-token is computed from.
  int64_t row_bytes() const;
  bool operator==(const RowFormat&) const = default;
};

// Encodes one row into slot `row` (0..63) of `page` (64-byte aligned, page_bytes()).
// k [k_dim], v [v_dim]. Throws Error when a value is NaN or infinite, or does not fit the encoding
// (f16: |x| > 65504).
void write_row(const RowFormat& format, std::byte* page, int64_t row, const float* k,
               const float* v);

// Decodes slot `row` of `page` into k [k_dim] and v [v_dim].
void read_row(const RowFormat& format, const std::byte* page, int64_t row, float* k, float* v);

// Moves the stored bits of a row to another slot, without decoding: eviction and compaction never
// re-quantise.
void copy_row(const RowFormat& format, const std::byte* from, int64_t from_row, std::byte* to,
              int64_t to_row);

}  // namespace mneme
