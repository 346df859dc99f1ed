#include "mneme/kernels/grouped_attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "mneme/core/rng.h"
#include "mneme/kernels/grouped_softmax.h"
#include "mneme/kernels/targets_testing.h"
#include "tests/support/error_of.h"

namespace mneme {
namespace {

using testing::error_of;

// Blocks of random rows with their queries, and the same as one list of rows for the twin.
struct Blocks {
  RowBlock layout;
  std::vector<std::vector<std::byte>> storage;
  std::vector<std::vector<float>> keys, queries, values;  // a block each
  std::vector<BlockItem> items;

  // `closed` of the blocks are; the last of `items` shows `visible` rows. What no row fills is NaN.
  Blocks(RowBlock block, int64_t count, bool closed, int64_t visible, uint64_t seed)
      : layout(block) {
    Rng rng(seed);
    const auto normal = [&](int64_t n) {
      std::vector<float> x(static_cast<size_t>(n));
      for (float& value : x) value = static_cast<float>(rng.normal());
      return x;
    };
    storage.resize(static_cast<size_t>(count));
    for (int64_t b = 0; b < count; ++b) {
      auto& bytes = storage[static_cast<size_t>(b)];
      bytes.assign(static_cast<size_t>(layout.bytes()), std::byte{0xff});
      const bool last = b + 1 == count;
      const int64_t rows = last ? visible : layout.rows;
      keys.push_back(normal(layout.rows * layout.k_dim));
      values.push_back(normal(layout.rows * layout.v_dim));
      queries.push_back(normal(layout.k_dim));
      for (int64_t r = 0; r < rows; ++r) {
        layout.write_row(r, keys.back().data() + r * layout.k_dim,
                         values.back().data() + r * layout.v_dim, bytes.data());
      }
      items.push_back({.block = bytes.data(), .rows = rows, .closed = closed && !last});
    }
    for (size_t b = 0; b < items.size(); ++b) items[b].q = queries[b].data();
  }

  // The definition in float64 from the rows as they are stored.
  std::vector<double> naive(BlockScale scale) const {
    std::vector<double> scores;
    std::vector<uint8_t> landmarks;
    std::vector<const float*> rows;
    std::vector<float> key(static_cast<size_t>(layout.k_dim));
    for (size_t b = 0; b < items.size(); ++b) {
      for (int64_t r = items[b].first; r < items[b].first + items[b].rows; ++r) {
        layout.read_key(storage[b].data(), r, key.data());
        double dot = 0;
        for (size_t i = 0; i < key.size(); ++i) dot += double{queries[b][i]} * key[i];
        dot *= scale.scale;
        scores.push_back(scale.softcap > 0 ? scale.softcap * std::tanh(dot / scale.softcap) : dot);
        landmarks.push_back(items[b].closed && r + 1 == items[b].first + items[b].rows);
        rows.push_back(values[b].data() + r * layout.v_dim);
      }
    }
    std::vector<double> out(static_cast<size_t>(layout.v_dim), 0.0);
    if (scores.empty()) return out;
    std::vector<double> weights(scores.size());
    grouped_softmax({1, std::ssize(scores), landmarks.data(), nullptr}, scores.data(),
                    weights.data());
    for (size_t j = 0; j < weights.size(); ++j)
      for (size_t i = 0; i < out.size(); ++i) out[i] += weights[j] * rows[j][i];
    return out;
  }
};

void expect_near(const std::vector<float>& got, const std::vector<double>& want, double tolerance) {
  for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], tolerance) << i;
}

TEST(GroupedAttention, EqualsGroupedSoftmaxOnEveryTarget) {
  for_each_target([] {
    std::vector<float> scratch;
    uint64_t seed = 0;
    for (const int64_t rows : {1, 2, 5, 51, 64, 100}) {
      for (const int64_t dim : {2, 6, 64, 100}) {
        for (const bool closed : {false, true}) {
          for (const float softcap : {0.0f, 5.0f}) {
            SCOPED_TRACE(::testing::Message() << rows << " x " << dim << " " << closed << softcap);
            const int64_t v_dim = dim == 6 ? 7 : dim;
            const Blocks blocks({.rows = rows, .k_dim = dim, .v_dim = v_dim}, 4, closed,
                                (rows + 1) / 2, ++seed);
            const BlockScale scale{.scale = 0.3f, .softcap = softcap};
            std::vector<float> out(static_cast<size_t>(v_dim), std::nanf(""));
            grouped_attention(blocks.layout, scale, blocks.items, out.data(), scratch);
            expect_near(out, blocks.naive(scale), 4e-6);
          }
        }
      }
    }
  });
}

TEST(GroupedAttention, HalfRowsErrOnlyByTheirRounding) {
  for_each_target([] {
    std::vector<float> scratch;
    const RowBlock layout{.dtype = DType::kF16, .rows = 51, .k_dim = 64, .v_dim = 64};
    const Blocks blocks(layout, 5, true, 17, 3);
    const BlockScale scale{.scale = 0.125f};
    std::vector<float> out(64, std::nanf(""));
    grouped_attention(layout, scale, blocks.items, out.data(), scratch);
    // Keys are compared as they are stored; values err by half a step of at most 4 / 2048.
    expect_near(out, blocks.naive(scale), 1e-3);
  });
}

TEST(GroupedAttention, PartsOfBlocksAndEmptyOnes) {
  Blocks blocks({.rows = 20, .k_dim = 16, .v_dim = 16}, 3, true, 20, 8);
  blocks.items[0].first = 7;
  blocks.items[0].rows = 13;
  blocks.items[1].rows = 0;
  blocks.items[2].first = 3;
  blocks.items[2].rows = 5;
  std::vector<float> out(16, std::nanf("")), scratch;
  const BlockScale scale{.scale = 0.25f};
  grouped_attention(blocks.layout, scale, blocks.items, out.data(), scratch);
  expect_near(out, blocks.naive(scale), 2e-6);
  grouped_attention(blocks.layout, scale, {}, out.data(), scratch);
  for (const float x : out) EXPECT_EQ(x, 0);
}

TEST(GroupedAttention, ABlockFarBelowTheOthersKeepsItsShape) {
  // Inside the closed block all scores are near -300; its landmark is as good as the open row.
  const RowBlock layout{.rows = 3, .k_dim = 1, .v_dim = 1};
  std::vector<std::byte> closed(static_cast<size_t>(layout.bytes())), open = closed;
  const float keys[] = {-300, -300, 1}, values[] = {2, 4, 1e6f};
  for (int64_t r = 0; r < 3; ++r) layout.write_row(r, keys + r, values + r, closed.data());
  const float key = 1, value = 5, q = 1;
  layout.write_row(0, &key, &value, open.data());
  const BlockItem items[] = {{closed.data(), &q, 0, 3, true}, {open.data(), &q, 0, 1, false}};
  float out = 0;
  std::vector<float> scratch;
  grouped_attention(layout, {}, items, &out, scratch);
  EXPECT_NEAR(out, (3 + 5) / 2.0, 1e-6);
}

TEST(GroupedAttention, ScoresOfSomeRowsAreThoseOfAll) {
  const Blocks blocks({.rows = 64, .k_dim = 24, .v_dim = 0}, 1, false, 64, 4);
  std::vector<float> all(64 + 16), one(1 + 16);
  BlockItem item = blocks.items[0];
  score_rows(blocks.layout, {}, item, all.data());
  for (item.first = 0, item.rows = 1; item.first < 64; ++item.first) {
    score_rows(blocks.layout, {}, item, one.data());
    EXPECT_EQ(one[0], all[static_cast<size_t>(item.first)]);
  }
}

TEST(GroupedAttention, RefusesBadInput) {
  const RowBlock layout{.rows = 4, .k_dim = 2, .v_dim = 2};
  std::vector<std::byte> block(static_cast<size_t>(layout.bytes()));
  std::vector<float> out(2), scratch;
  const float q[] = {1, 2}, bad[] = {1, std::numeric_limits<float>::infinity()},
              large[] = {1, 70000};
  const BlockItem outside{block.data(), q, 2, 3, false}, null{nullptr, q, 0, 1, false};
  EXPECT_EQ(error_of([&] {
              grouped_attention(layout, {}, {&outside, 1}, out.data(), scratch);
            }),
            "grouped_attention: rows 2 to 5 are outside a block of 4");
  EXPECT_EQ(error_of([&] {
              grouped_attention(layout, {}, {&null, 1}, out.data(), scratch);
            }),
            "grouped_attention: null rows");
  EXPECT_EQ(error_of([&] { layout.write_row(1, q, bad, block.data()); }),
            "row 1 of a block holds a number that F32 cannot store");
  RowBlock half = layout;
  half.dtype = DType::kF16;
  EXPECT_EQ(error_of([&] { half.write_row(0, large, q, block.data()); }),
            "row 0 of a block holds a number that F16 cannot store");
  half.dtype = DType::kBF16;
  EXPECT_EQ(error_of([&] { half.validate(); }),
            "row block: rows are stored as F32 or F16, got BF16");
  half = layout;
  half.rows = 0;
  EXPECT_EQ(error_of([&] { half.validate(); }), "row block: rows must be 1 to 1048576, got 0");
}

}  // namespace
}  // namespace mneme
