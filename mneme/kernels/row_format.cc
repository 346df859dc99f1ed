#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/kernels/row_layout.h"
#include "mneme/kernels/row_page.h"

namespace mneme {
namespace {

constexpr int64_t kLine = 64;  // parts start on multiples of it

}  // namespace

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

RowPart key_part(const RowFormat& format) {
  const PageLayout layout = page_layout(format);
  return {format.k_dim, true, 0, layout.k_scales, layout.k_biases};
}

RowPart value_part(const RowFormat& format) {
  const PageLayout layout = page_layout(format);
  return {format.v_dim, false, layout.v, layout.v_scales, layout.v_biases};
}

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
  // Words of 32 bits; fitting works on 16 elements at a time.
  const int64_t unit = fitted ? 16 : 32 / element_bits(encoding);
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

}  // namespace mneme
