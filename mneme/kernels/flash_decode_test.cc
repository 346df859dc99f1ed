#include "mneme/kernels/flash_decode.h"

#include <gtest/gtest.h>

#include <numeric>

#include "mneme/kernels/flash_testing.h"
#include "mneme/kernels/targets_testing.h"
#include "tests/support/error_of.h"
#include "tests/support/golden.h"

namespace mneme {
namespace {

using testing::error_of;
using testing::FlashAnswer;
using testing::FlashProblem;
using testing::GoldenCase;
using testing::GoldenFile;
using testing::largest_error;

// A cache of float32 with its tables, and a call's queries, new rows and answers.
struct Decode {
  FlashAttention config;
  std::vector<float> k, v, q, k_new, v_new, o, lse, part_o, part_lse, cosines, sines;
  std::vector<int32_t> lengths, table, padding, row_of;
  int64_t capacity = 0, rows = 0, tokens = 0, splits = 0;
  bool interleaved = true;

  void run(ThreadPool& pool, bool results = false) {
    const int64_t dim = config.head_dim, heads = config.kv_heads;
    KvCache cache;
    cache.k = {k.data(), token_major(capacity, heads, dim)};
    cache.v = {v.data(), token_major(capacity, heads, dim)};
    cache.rows = rows;
    cache.capacity = capacity;
    cache.lengths = lengths.data();
    if (!padding.empty()) cache.left_padding = padding.data();
    if (!row_of.empty()) cache.row_of = row_of.data();
    if (!table.empty()) {
      cache.block_table = table.data();
      cache.table_width = static_cast<int64_t>(table.size()) / config.batch;
    }
    const HeadStrides added = token_major(tokens, heads, dim);
    const HeadStrides asked = token_major(config.q_len, config.q_heads, dim);
    KvRotary rotary;
    if (!cosines.empty()) {
      rotary = {cosines.data(), sines.data(), 64, static_cast<int64_t>(cosines.size()) / 64,
                interleaved};
    }
    o.assign(q.size(), std::nanf(""));
    lse.assign(q.size() / static_cast<size_t>(dim), std::nanf(""));
    SplitResults parts;
    if (results) {
      part_o.assign(q.size() * static_cast<size_t>(splits), std::nanf(""));
      part_lse.assign(lse.size() * static_cast<size_t>(splits), std::nanf(""));
      parts = {part_o.data(), part_lse.data()};
    }
    AttentionScratch scratch;
    attention_with_kv_cache(config, {q.data(), asked}, cache,
                            {tokens, {k_new.data(), added}, {v_new.data(), added}}, rotary, splits,
                            {o.data(), asked}, lse.data(), parts, scratch, pool);
  }
};

void expect_part(const GoldenCase& golden, const std::string& part, const std::vector<float>& got) {
  testing::expect_close(got, golden.floats(part), golden.abs_tolerance(), golden.rel_tolerance(),
                        golden.name() + " " + part);
}

std::vector<int32_t> narrow(const std::vector<int64_t>& wide) { return {wide.begin(), wide.end()}; }

TEST(GoldenFlashDecode, EveryCaseWithACache) {
  const auto file = GoldenFile::open("01-flash-attention-2");
  if (!file) GTEST_SKIP();
  ThreadPool pool(2);
  int seen = 0;
  for (const GoldenCase& golden : file->cases()) {
    if (!golden.has("in.k_cache")) continue;
    SCOPED_TRACE(golden.name());
    ++seen;
    Decode start;
    const auto& config = golden.config();
    const std::vector<int64_t>&q = golden.shape("in.q"), &cache = golden.shape("in.k_cache");
    start.config.batch = q[0];
    start.config.q_len = q[1];
    start.config.q_heads = q[2];
    start.config.kv_heads = cache[2];
    start.config.head_dim = q[3];
    start.config.scale = config["softmax_scale"];
    start.config.causal = config["causal"];
    if (config.contains("window")) {
      start.config.window_left = config["window"][0];
      start.config.window_right = config["window"][1];
    }
    start.config.softcap = config.value("softcap", 0.0);
    start.rows = cache[0];
    start.capacity = cache[1];
    start.splits = config.value("num_splits", int64_t{0});
    start.q = golden.floats("in.q");
    start.k = golden.floats("in.k_cache");
    start.v = golden.floats("in.v_cache");
    start.lengths = narrow(golden.integers("in.cache_seqlens"));
    if (golden.has("in.block_table")) start.table = narrow(golden.integers("in.block_table"));
    const std::vector<float> slopes =
        golden.has("in.alibi_slopes") ? golden.floats("in.alibi_slopes") : std::vector<float>();
    if (!slopes.empty()) {
      start.config.alibi_slopes = slopes.data();
      start.config.alibi_per_batch = golden.shape("in.alibi_slopes").size() == 2;
    }
    if (golden.has("in.k_new")) {
      start.k_new = golden.floats("in.k_new");
      start.v_new = golden.floats("in.v_new");
      start.tokens = golden.shape("in.k_new")[1];
    }
    for_each_target([&] {
      Decode decode = start;
      const bool parts = golden.has("out.partial_lse");
      decode.run(pool, parts);
      for (float& value : decode.lse) value = std::isinf(value) ? 0 : value;
      expect_part(golden, "out.o", decode.o);
      expect_part(golden, "out.lse", decode.lse);
      if (parts) {
        // The file holds -1e30 where a split is empty, and o as [split, B, H, new, D].
        for (float& value : decode.part_lse) value = std::isinf(value) ? -1e30f : value;
        expect_part(golden, "out.partial_lse", decode.part_lse);
        expect_part(golden, "out.partial_o", decode.part_o);
      }
      if (golden.has("out.k_cache_after")) {
        EXPECT_EQ(decode.k, golden.floats("out.k_cache_after"));
        EXPECT_EQ(decode.v, golden.floats("out.v_cache_after"));
      }
    });
  }
  EXPECT_GT(seen, 0);
}

// A contiguous cache with room for `capacity` tokens; what holds no token yet is NaN.
Decode contiguous(int64_t batch, int64_t queries, int64_t added, std::vector<int32_t> lengths,
                  int64_t capacity) {
  Decode d;
  d.config.batch = batch;
  d.config.q_len = queries;
  d.config.q_heads = 6;
  d.config.kv_heads = 2;
  d.config.head_dim = 20;
  d.config.scale = 0.3;
  d.config.causal = true;
  d.rows = batch;
  d.capacity = capacity;
  d.tokens = added;
  d.lengths = std::move(lengths);
  Rng rng(5);
  d.q = testing::normals(rng, batch * queries * 6 * 20);
  d.k_new = testing::normals(rng, batch * added * 2 * 20);
  d.v_new = testing::normals(rng, batch * added * 2 * 20);
  d.k = testing::normals(rng, batch * capacity * 2 * 20);
  d.v = testing::normals(rng, batch * capacity * 2 * 20);
  for (int64_t b = 0; b < batch; ++b) {
    for (auto* cache : {&d.k, &d.v}) {
      std::fill(cache->begin() + (b * capacity + d.lengths[static_cast<size_t>(b)]) * 40,
                cache->begin() + (b + 1) * capacity * 40, std::nanf(""));
    }
  }
  return d;
}

// The same rows in pages of `page` tokens, dealt out backwards.
Decode paged(const Decode& from, int64_t page) {
  Decode d = from;
  const int64_t width = (from.capacity + page - 1) / page;
  d.capacity = page;
  d.rows = width * from.config.batch + 1;
  d.k.assign(static_cast<size_t>(d.rows * page * 40), std::nanf(""));
  d.v = d.k;
  for (int64_t b = 0; b < from.config.batch; ++b) {
    for (int64_t p = 0; p < width; ++p) {
      const int64_t at = d.rows - 1 - (b * width + p);
      d.table.push_back(static_cast<int32_t>(at));
      const int64_t tokens = std::min(page, from.capacity - p * page);
      const int64_t source = (b * from.capacity + p * page) * 40;
      std::copy(from.k.begin() + source, from.k.begin() + source + tokens * 40,
                d.k.begin() + at * page * 40);
      std::copy(from.v.begin() + source, from.v.begin() + source + tokens * 40,
                d.v.begin() + at * page * 40);
    }
  }
  return d;
}

// The definition over the rows that a contiguous cache holds after the call.
void expect_definition(const Decode& d, double allowance) {
  const int64_t q_row = d.config.q_len * 6 * 20;
  for (int64_t b = 0; b < d.config.batch; ++b) {
    FlashProblem p{d.config, {}, {}, {}, {}};
    const auto at = static_cast<size_t>(b);
    const int64_t first = d.padding.empty() ? 0 : d.padding[at];
    const int64_t row = d.row_of.empty() ? b : d.row_of[at];
    p.config.batch = 1;
    p.config.k_len = d.lengths[at] + d.tokens - first;
    p.q.assign(d.q.begin() + b * q_row, d.q.begin() + (b + 1) * q_row);
    p.dout = p.q;
    const int64_t begin = (row * d.capacity + first) * 40;
    p.k.assign(d.k.begin() + begin, d.k.begin() + begin + p.config.k_len * 40);
    p.v.assign(d.v.begin() + begin, d.v.begin() + begin + p.config.k_len * 40);
    const FlashAnswer want = testing::exact_flash(p);
    const std::vector<double> o(d.o.begin() + b * q_row, d.o.begin() + (b + 1) * q_row);
    const std::vector<double> lse(d.lse.begin() + b * q_row / 20,
                                  d.lse.begin() + (b + 1) * q_row / 20);
    EXPECT_LE(largest_error(o, want.o), allowance) << "sequence " << b;
    EXPECT_LE(largest_error(lse, want.lse), allowance) << "sequence " << b;
  }
}

TEST(FlashDecode, AppendsAndAttendsByTheDefinition) {
  ThreadPool pool(2);
  for (const int64_t splits : {0, 1, 3, 40}) {
    for (const int64_t queries : {1, 5}) {
      Decode d = contiguous(3, queries, queries, {0, 1290, 700}, 1300);
      d.splits = splits;
      d.config.window_left = queries == 5 ? 800 : -1;
      d.run(pool);
      expect_definition(d, 2e-6);
    }
  }
}

TEST(FlashDecode, PagesOfAnySizeHoldTheSameRows) {
  ThreadPool pool(2);
  Decode want = contiguous(3, 3, 3, {10, 1290, 703}, 1300);
  const Decode start = want;
  want.run(pool);
  for (const int64_t page : {1, 3, 16, 128, 1000}) {
    Decode got = paged(start, page);
    got.run(pool);
    if (512 % page == 0) {
      EXPECT_EQ(got.o, want.o) << page;
    }
    EXPECT_LE(largest_error({got.o.begin(), got.o.end()}, {want.o.begin(), want.o.end()}), 1e-6)
        << page;
  }
}

TEST(FlashDecode, BatchAndThreadsDoNotChangeASequence) {
  ThreadPool one(1), four(4);
  Decode all = contiguous(8, 2, 2, {5, 900, 1200, 3, 4, 0, 77, 1000}, 1300);
  const Decode start = all;
  all.run(four);
  Decode again = start;
  again.run(one);
  EXPECT_EQ(again.o, all.o);
  Decode single = start;
  single.config.batch = 1;
  single.rows = 8;
  single.lengths = {900};
  single.row_of = {1};
  const auto part = [](std::vector<float>& x, int64_t size) {
    x = std::vector<float>(x.begin() + size, x.begin() + 2 * size);
  };
  part(single.q, 240);
  part(single.k_new, 80);
  part(single.v_new, 80);
  single.run(four);
  EXPECT_EQ(single.o, std::vector<float>(all.o.begin() + 240, all.o.begin() + 480));
}

TEST(FlashDecode, LeavesPaddingOut) {
  ThreadPool pool(2);
  Decode d = contiguous(2, 2, 2, {40, 700}, 800);
  d.padding = {40, 133};
  std::fill(d.k.begin(), d.k.begin() + 40 * 40, std::nanf(""));
  d.run(pool);
  expect_definition(d, 2e-6);
}

TEST(FlashDecode, TurnsNewKeysAndQueries) {
  ThreadPool pool(2);
  for (const bool interleaved : {true, false}) {
    for (const bool causal : {true, false}) {
      Decode d = contiguous(2, 3, 3, {7, 20}, 30);
      d.config.causal = causal;
      d.interleaved = interleaved;
      constexpr int64_t kHalf = 6;
      for (int64_t i = 0; i < 64 * kHalf; ++i) {
        const double angle =
            static_cast<double>(i / kHalf) / std::pow(100.0, static_cast<double>(i % kHalf) / 6);
        d.cosines.push_back(static_cast<float>(std::cos(angle)));
        d.sines.push_back(static_cast<float>(std::sin(angle)));
      }
      Decode turned = d;
      const auto turn = [&](float* x, int64_t position) {
        for (int64_t i = 0; i < kHalf; ++i) {
          float &a = x[interleaved ? 2 * i : i], &b = x[interleaved ? 2 * i + 1 : kHalf + i];
          const float c = d.cosines[static_cast<size_t>(position * kHalf + i)];
          const float s = d.sines[static_cast<size_t>(position * kHalf + i)], x0 = a;
          a = x0 * c - b * s;
          b = x0 * s + b * c;
        }
      };
      for (int64_t b = 0; b < 2; ++b) {
        for (int64_t t = 0; t < 3; ++t) {
          const int64_t held = d.lengths[static_cast<size_t>(b)];
          for (int64_t h = 0; h < 2; ++h)
            turn(turned.k_new.data() + ((b * 3 + t) * 2 + h) * 20, held + t);
          for (int64_t h = 0; h < 6; ++h) {
            turn(turned.q.data() + ((b * 3 + t) * 6 + h) * 20, held + (causal ? t : 0));
          }
        }
      }
      turned.cosines.clear();
      d.run(pool);
      turned.run(pool);
      const auto wide = [](const std::vector<float>& x) {
        return std::vector<double>(x.begin(), x.end());
      };
      EXPECT_LE(largest_error(wide(d.o), wide(turned.o)), 1e-6);
      const int64_t first = 7 * 40;  // the first new row of sequence 0
      for (int64_t i = 0; i < 120; ++i) {
        EXPECT_NEAR(d.k[static_cast<size_t>(first + i)], turned.k[static_cast<size_t>(first + i)],
                    1e-6);
      }
      EXPECT_TRUE(std::isnan(d.k[static_cast<size_t>(first + 120)])) << "written past the new rows";
    }
  }
}

TEST(FlashDecode, SplitsThatSeeNothingWeighNothing) {
  ThreadPool pool(2);
  Decode d = contiguous(2, 1, 0, {0, 100}, 128);
  d.splits = 5;
  d.run(pool, true);
  EXPECT_TRUE(std::isinf(d.lse[0]) && d.lse[0] > 0);
  for (size_t i = 0; i < 120; ++i) EXPECT_EQ(d.o[i], 0);
  for (size_t s = 0; s < 5; ++s) {
    EXPECT_EQ(d.part_lse[s * 12], -std::numeric_limits<float>::infinity());
    EXPECT_EQ(std::isinf(d.part_lse[s * 12 + 6]), s != 0);
  }
}

TEST(FlashDecode, SaysWhatDoesNotFitAndWritesNothing) {
  ThreadPool pool(1);
  const Decode good = contiguous(2, 1, 1, {3, 4}, 5);
  const auto error = [&](auto change) {
    Decode d = good;
    change(d);
    const std::vector<float> before = d.v;
    const std::string text = error_of([&] { d.run(pool); });
    EXPECT_EQ(std::memcmp(before.data(), d.v.data(), before.size() * 4), 0);
    return text;
  };
  EXPECT_EQ(error([](Decode& d) { d.lengths[1] = 5; }),
            "kv cache: sequence 1 holds 5 tokens and has room for 5, so 1 more do not fit");
  EXPECT_EQ(error([](Decode& d) { d.lengths[0] = -1; }),
            "kv cache: lengths[0] must not be negative, got -1");
  EXPECT_EQ(error([](Decode& d) { d.row_of = {0, 2}; }), "kv cache: sequence 1 is in row 2 of 2");
  EXPECT_EQ(error([](Decode& d) {
              d.table = {0, -1};
            }),
            "kv cache: block_table[1, 0] must be a page from 0 to 1, got -1");
  EXPECT_EQ(error([](Decode& d) {
              d.table = {0, 2};
            }),
            "kv cache: block_table[1, 0] must be a page from 0 to 1, got 2");
  EXPECT_EQ(error([](Decode& d) {
              d.padding = {4, 0};
            }),
            "kv cache: left_padding[0] must be 0 to 3, got 4");
  EXPECT_EQ(error([](Decode& d) { d.config.dropout = 0.1; }),
            "kv cache: dropout must be 0, got 0.1");
  EXPECT_EQ(error([](Decode& d) { d.splits = -1; }),
            "kv cache: splits must not be negative, got -1");
  EXPECT_EQ(error([](Decode& d) { d.cosines.assign(64 * 11, 1), d.sines = d.cosines; }),
            "kv cache: rotary embeddings turn at most 20 values, got 22");
}

}  // namespace
}  // namespace mneme
