#include "mneme/kernels/row_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "mneme/core/error.h"
#include "mneme/core/half.h"
#include "mneme/core/rng.h"
#include "mneme/kernels/affine_quant.h"

namespace mneme {
namespace {

using ::testing::HasSubstr;

struct Page {
  explicit Page(const RowFormat& format) : storage(format.page_bytes() + 64) {
    const auto address = reinterpret_cast<uintptr_t>(storage.data());
    data = storage.data() + (64 - address % 64) % 64;
    std::memset(storage.data(), 0xff, storage.size());  // NaN in every float type
  }
  std::vector<std::byte> storage;
  std::byte* data;
};

std::vector<float> normals(Rng& rng, int64_t n) {
  std::vector<float> x(static_cast<size_t>(n));
  for (float& value : x) value = static_cast<float>(rng.normal());
  return x;
}

std::vector<RowFormat> formats() {
  std::vector<RowFormat> all;
  const int64_t dims[][3] = {{1, 3, 0},      {16, 16, 16},    {63, 80, 0},
                             {64, 64, 64},   {96, 96, 32},    {80, 48, 8},
                             {192, 128, 64}, {512, 256, 128}, {40, 72, 8}};
  for (const auto& [k, v, group] : dims) {
    for (const RowEncoding encoding : {RowEncoding::kF32, RowEncoding::kF16, RowEncoding::kBF16})
      all.push_back({encoding, k, v});
    if (group == 0) continue;
    for (const RowEncoding encoding : {RowEncoding::kQ8, RowEncoding::kQ4}) {
      for (const bool f32_scales : {false, true})
        all.push_back({encoding, k, v, group, f32_scales});
    }
  }
  return all;
}

std::string name_of(const RowFormat& f) {
  return std::string(row_encoding_name(f.encoding)) + " k " + std::to_string(f.k_dim) + " v " +
         std::to_string(f.v_dim) + " group " + std::to_string(f.group);
}

// What a value becomes when it is stored and read.
std::vector<float> stored(const RowFormat& f, std::vector<float> x) {
  if (f.encoding == RowEncoding::kF16) {
    for (float& value : x) value = f16_to_float(float_to_f16(value));
  } else if (f.encoding == RowEncoding::kBF16) {
    for (float& value : x) value = bf16_to_float(float_to_bf16(value));
  } else if (f.quantised()) {
    const int bits = f.encoding == RowEncoding::kQ8 ? 8 : 4;
    std::vector<uint8_t> codes(x.size());
    for (size_t at = 0; at < x.size(); at += f.group) {
      AffineParams p = affine_quantize_group(x.data() + at, f.group, bits, codes.data());
      if (!f.f32_scales)
        p = {f16_to_float(float_to_f16(p.scale)), f16_to_float(float_to_f16(p.bias))};
      for (int64_t i = 0; i < f.group; ++i)
        x[at + i] = p.scale * static_cast<float>(codes[i]) + p.bias;
    }
  }
  return x;
}

TEST(RowPage, EveryRowReadsBackAsItsEncodingRounds) {
  Rng rng(11);
  for (const RowFormat& f : formats()) {
    SCOPED_TRACE(name_of(f));
    Page page(f);
    std::vector<std::vector<float>> ks, vs;
    for (int64_t row = 0; row < kPageRows; ++row) {
      ks.push_back(normals(rng, f.k_dim));
      vs.push_back(normals(rng, f.v_dim));
      write_row(f, page.data, row, ks.back().data(), vs.back().data());
    }
    for (int64_t row = 0; row < kPageRows; ++row) {
      std::vector<float> k(f.k_dim), v(f.v_dim);
      read_row(f, page.data, row, k.data(), v.data());
      ASSERT_EQ(k, stored(f, ks[row])) << "row " << row;
      ASSERT_EQ(v, stored(f, vs[row])) << "row " << row;
    }
  }
}

TEST(RowPage, WritingARowTouchesNoOtherRow) {
  Rng rng(12);
  for (const RowFormat& f : formats()) {
    SCOPED_TRACE(name_of(f));
    Page page(f);
    for (int64_t row = 0; row < kPageRows; ++row)
      write_row(f, page.data, row, normals(rng, f.k_dim).data(), normals(rng, f.v_dim).data());
    const std::vector<std::byte> before(page.data, page.data + f.page_bytes());
    std::vector<std::byte> packed(f.row_bytes());
    pack_row(f, page.data, 37, packed.data());
    write_row(f, page.data, 37, normals(rng, f.k_dim).data(), normals(rng, f.v_dim).data());
    EXPECT_NE(std::memcmp(before.data(), page.data, before.size()), 0);
    unpack_row(f, packed.data(), page.data, 37);
    EXPECT_EQ(std::memcmp(before.data(), page.data, before.size()), 0);
  }
}

TEST(RowPage, CopyMovesTheStoredBits) {
  Rng rng(13);
  for (const RowFormat& f : formats()) {
    SCOPED_TRACE(name_of(f));
    Page a(f), b(f);
    write_row(f, a.data, 63, normals(rng, f.k_dim).data(), normals(rng, f.v_dim).data());
    copy_row(f, a.data, 63, b.data, 17);
    std::vector<std::byte> from(f.row_bytes()), to(f.row_bytes());
    pack_row(f, a.data, 63, from.data());
    pack_row(f, b.data, 17, to.data());
    EXPECT_EQ(from, to);
    copy_row(f, b.data, 17, b.data, 0);
    pack_row(f, b.data, 0, to.data());
    EXPECT_EQ(from, to);
  }
}

TEST(RowPage, PackedRowHoldsTheWordsOfThePaper) {
  Rng rng(14);
  for (const RowEncoding encoding : {RowEncoding::kQ8, RowEncoding::kQ4}) {
    const RowFormat f{encoding, 128, 64, 32, true};
    const int bits = encoding == RowEncoding::kQ8 ? 8 : 4;
    Page page(f);
    const std::vector<float> k = normals(rng, 128), v = normals(rng, 64);
    write_row(f, page.data, 9, k.data(), v.data());
    std::vector<std::byte> packed(f.row_bytes());
    pack_row(f, page.data, 9, packed.data());
    std::vector<uint32_t> words(128 * bits / 32);
    std::vector<float> scales(4), biases(4);
    affine_quantize_row(k.data(), 128, bits, 32, words.data(), scales.data(), biases.data());
    const std::byte* at = packed.data();
    EXPECT_EQ(std::memcmp(at, words.data(), words.size() * 4), 0);
    at += words.size() * 4;
    EXPECT_EQ(std::memcmp(at, scales.data(), 16), 0);
    EXPECT_EQ(std::memcmp(at + 16, biases.data(), 16), 0);
  }
}

TEST(RowPage, BytesAreThoseOfTheFormulas) {
  // papers/05 section 4: 6480 bytes a token of SmolLM2 in q4, 23040 in f16.
  EXPECT_EQ((RowFormat{RowEncoding::kQ4, 64, 64}.row_bytes() * 30 * 3), 6480);
  EXPECT_EQ((RowFormat{RowEncoding::kF16, 64, 64}.row_bytes() * 30 * 3), 23040);
  for (const RowFormat& f : formats()) {
    EXPECT_EQ(f.page_bytes() % 64, 0) << name_of(f);
    EXPECT_GE(f.page_bytes(), f.row_bytes() * kPageRows) << name_of(f);
    EXPECT_LE(f.page_bytes(), f.row_bytes() * kPageRows + 6 * 64) << name_of(f);
  }
}

std::string refusal(const RowFormat& f) {
  try {
    f.validate();
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(RowPage, RefusesFormatsThatDoNotFit) {
  EXPECT_THAT(refusal({RowEncoding::kQ4, 96, 96, 64}),
              HasSubstr("groups of 64 (a multiple of 8); group=32 does"));
  EXPECT_THAT(refusal({RowEncoding::kQ4, 63, 64, 64}), HasSubstr("63"));
  EXPECT_THAT(refusal({RowEncoding::kQ8, 64, 64, 0}), HasSubstr("group=64 does"));
  EXPECT_THAT(refusal({RowEncoding::kF16, 0, 64}), HasSubstr("1 to 512, got 0"));
  EXPECT_THAT(refusal({RowEncoding::kF16, 64, 513}), HasSubstr("got 513"));
  EXPECT_EQ(refusal({RowEncoding::kF16, 63, 1}), "accepted");
}

TEST(RowPage, RefusesValuesThatDoNotFit) {
  const auto refused = [](RowEncoding encoding, float value, bool in_v) {
    const RowFormat f{encoding, 64, 64};
    Page page(f);
    std::vector<float> k(64, 1.0f), v(64, 1.0f);
    (in_v ? v : k)[41] = value;
    try {
      write_row(f, page.data, 0, k.data(), v.data());
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  const float inf = std::numeric_limits<float>::infinity(),
              nan = std::numeric_limits<float>::quiet_NaN();
  for (const RowEncoding encoding : {RowEncoding::kF32, RowEncoding::kF16, RowEncoding::kBF16,
                                     RowEncoding::kQ8, RowEncoding::kQ4}) {
    for (const bool in_v : {false, true}) {
      for (const float value : {inf, -inf, nan})
        EXPECT_THAT(refused(encoding, value, in_v), HasSubstr("finite"));
    }
  }
  EXPECT_EQ(refused(RowEncoding::kF16, 65504.0f, false), "accepted");
  EXPECT_THAT(refused(RowEncoding::kF16, -65505.0f, true), HasSubstr("-65505"));
  EXPECT_THAT(refused(RowEncoding::kBF16, 3.4e38f, false), HasSubstr("bf16"));
  EXPECT_THAT(refused(RowEncoding::kQ4, 70000.0f, false), HasSubstr("65504"));
  EXPECT_EQ(refused(RowEncoding::kF32, 3.4e38f, false), "accepted");
}

}  // namespace
}  // namespace mneme
