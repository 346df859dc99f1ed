#include "mneme/cache/tiered_tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "mneme/core/rng.h"
#include "tests/support/error_of.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

TierLayout layout_of(int64_t slow_bits) {
  return {.rows = {.dtype = DType::kF32, .q_heads = 2, .kv_heads = 2, .k_dim = 3, .v_dim = 5},
          .block = 4,
          .slow_bits = slow_bits};
}

TieredTokens made(const TierLayout& layout) {
  return {layout, BlockStore::in_memory(layout.fast_bytes()),
          BlockStore::in_memory(layout.slow_bytes())};
}

std::vector<float> row_of(int64_t position, int64_t floats) {
  Rng rng(static_cast<uint64_t>(position));
  std::vector<float> row(static_cast<size_t>(floats));
  for (float& x : row) x = static_cast<float>(rng.uniform() * 2 - 1);
  return row;
}

void write(TieredTokens& tokens, int64_t begin, int64_t end) {
  tokens.reserve(begin, end);
  for (int64_t p = begin; p < end; ++p)
    tokens.write(p, row_of(p, 6).data(), row_of(p + 1000, 10).data());
}

void move(TieredTokens& tokens, const TierPlacement& to) { tokens.move(to, tokens.copies_for(to)); }

void expect_token(const TierLayout& layout, const TieredTokens& tokens, int64_t position,
                  float tolerance) {
  std::vector<float> k(6), v(10), scratch;
  std::vector<std::byte> room(static_cast<size_t>(layout.rows.token_bytes() + 64));
  const std::byte* from = room.data();
  if (position < tokens.slow_end()) {
    tokens.load_slow(position, room.data(), scratch);
  } else {
    from = tokens.fast(position);
  }
  layout.rows.read_token(from, k.data(), v.data());
  for (size_t i = 0; i < 6; ++i) EXPECT_NEAR(k[i], row_of(position, 6)[i], tolerance) << position;
  for (size_t i = 0; i < 10; ++i)
    EXPECT_NEAR(v[i], row_of(position + 1000, 10)[i], tolerance) << position;
}

TEST(TieredTokens, TokensStayThemselvesWhereverTheyLie) {
  for (const auto& [bits, tolerance] : {std::pair{0, 0.0f}, {8, 0.013f}, {4, 0.21f}}) {
    const TierLayout layout = layout_of(bits);
    TieredTokens tokens = made(layout);
    write(tokens, 0, 11);
    write(tokens, 11, 23);
    move(tokens, {12, 0});
    move(tokens, {16, 4});
    EXPECT_EQ(tokens.placement(), (TierPlacement{16, 4}));
    for (int64_t p = 4; p < 23; ++p) expect_token(layout, tokens, p, p < 16 ? tolerance : 0);
    EXPECT_EQ(tokens.resident_bytes(), tokens.bytes_of(2, 3));
    // Straight from the fast tier to nowhere.
    move(tokens, {20, 20});
    EXPECT_EQ(tokens.slow_blocks(), 0);
    for (int64_t p = 20; p < 23; ++p) expect_token(layout, tokens, p, 0);
    write(tokens, 23, 24);
    expect_token(layout, tokens, 23, 0);
  }
}

TEST(TieredTokens, AForkWritesItsOwnNewestBlock) {
  const TierLayout layout = layout_of(8);
  TieredTokens ours = made(layout);
  write(ours, 0, 6);
  TieredTokens theirs = ours;
  theirs.reserve(6, 7);
  theirs.write(6, row_of(77, 6).data(), row_of(1077, 10).data());
  write(ours, 6, 8);
  for (int64_t p = 0; p < 8; ++p) expect_token(layout, ours, p, 0);
  EXPECT_NE(ours.fast(6), theirs.fast(6));
  EXPECT_EQ(ours.fast(1), theirs.fast(1)) << "complete blocks are shared";
}

TEST(TieredTokens, RefusesBadInput) {
  TierLayout layout = layout_of(5);
  EXPECT_THAT(error_of([&] { layout.validate(); }), HasSubstr("8 or 4 bits"));
  layout = layout_of(8);
  layout.block = 0;
  EXPECT_THAT(error_of([&] { layout.validate(); }), HasSubstr("got 0"));
  layout = layout_of(8);
  TieredTokens tokens = made(layout);
  tokens.reserve(0, 1);
  std::vector<float> k(6, std::nanf("")), v(10);
  EXPECT_THAT(error_of([&] { tokens.write(0, k.data(), v.data()); }), HasSubstr("cannot store"));
}

}  // namespace
}  // namespace mneme
