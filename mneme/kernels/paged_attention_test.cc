// Tests see the target that only attention is built for.
#define HWY_WANT_AVX3_DL
#include "mneme/kernels/paged_attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "mneme/core/error.h"
#include "mneme/kernels/attention_testing.h"
#include "mneme/kernels/targets_testing.h"

namespace mneme {
namespace {

using ::testing::HasSubstr;
using testing::naive_attention;
using testing::normals;
using testing::PagedRows;
using testing::RoundingError;

struct Shape {
  int64_t q_heads, kv_heads, k_dim, v_dim, rows;
};

// Head sizes that are one vector, several, and no multiple of any; every ratio of heads that models
// use.
const Shape kShapes[] = {{9, 3, 64, 64, 700}, {4, 1, 256, 256, 70},  {1, 1, 1, 1, 63},
                         {2, 2, 16, 16, 64},  {3, 1, 63, 63, 100},   {8, 1, 80, 80, 200},
                         {6, 2, 96, 96, 520}, {14, 2, 128, 128, 90}, {3, 3, 192, 128, 77},
                         {2, 1, 40, 72, 129}, {100, 1, 32, 32, 70}};

std::vector<RowFormat> formats_of(const Shape& s) {
  std::vector<RowFormat> formats;
  for (const RowEncoding e : {RowEncoding::kF32, RowEncoding::kF16, RowEncoding::kBF16}) {
    formats.push_back({e, s.k_dim, s.v_dim});
  }
  for (const RowEncoding e : {RowEncoding::kQ8, RowEncoding::kQ4}) {
    for (const int64_t group : {128, 64, 32, 16, 8}) {
      if (s.k_dim % group == 0 && s.v_dim % group == 0) {
        formats.push_back({e, s.k_dim, s.v_dim, group, group == 32});
      }
    }
  }
  return formats;
}

PagedAttention config_of(const Shape& s, const RowFormat& format) {
  return {format, s.q_heads, s.kv_heads, 1.0f / std::sqrt(static_cast<float>(s.k_dim))};
}

std::string name_of(const PagedAttention& c) {
  return concat(row_encoding_name(c.format.encoding), " group ", c.format.group, " heads ",
                c.q_heads, "/", c.kv_heads, " dims ", c.format.k_dim, "/", c.format.v_dim,
                " window ", c.window.window, " sink ", c.window.sink, " softcap ", c.softcap);
}

std::vector<float> attend(const PagedAttention& config, int64_t queries, int64_t first,
                          const std::vector<float>& q,
                          std::span<const std::span<const PageView>> heads, int threads,
                          int64_t chunk) {
  ThreadPool pool(threads);
  AttentionScratch scratch;
  std::vector<float> out(static_cast<size_t>(queries * config.q_heads * config.format.v_dim),
                         std::numeric_limits<float>::quiet_NaN());
  for (int64_t at = 0; at < queries; at += chunk) {
    paged_attention(config, std::min(chunk, queries - at), first + at,
                    q.data() + at * config.q_heads * config.format.k_dim, heads,
                    out.data() + at * config.q_heads * config.format.v_dim, scratch, pool);
  }
  return out;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

double worst(const std::vector<float>& got, const std::vector<double>& want) {
  double worst = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double error = std::abs(got[i] - want[i]);
    if (!(error <= worst)) worst = error;  // NaN too
  }
  return worst;
}

// The error against float64 is at most twice what plain float32 code makes. The floor is two units
// in the last place of the values read, of which a folded scale and bias may cost one where float32
// code copies the row it was given. Where codes are multiplied in whole numbers, six standard
// deviations of what that rounding may cost come on top.
class Accuracy {
 public:
  Accuracy(const PagedAttention& config, int64_t queries, int64_t first,
           const std::vector<float>& q, std::span<const std::span<const PageView>> heads)
      : want_(naive_attention<double>(config, queries, first, q.data(), heads)),
        deviation_(RoundingError(config).deviation(queries, first, q.data(), heads)),
        limit_(2 * worst(naive_attention<float>(config, queries, first, q.data(), heads), want_) +
               5e-7) {}
  void expect(const std::vector<float>& got) const {
    for (size_t i = 0; i < got.size(); ++i) {
      const double limit = limit_ + 6 * deviation_[i];
      ASSERT_LE(std::abs(got[i] - want_[i]), limit) << "value " << i;  // fails on NaN too
    }
  }

 private:
  std::vector<double> want_, deviation_;
  double limit_;
};

TEST(PagedAttention, MatchesFloat64OnEveryTargetShapeAndEncoding) {
  Rng rng(21);
  for (const Shape& shape : kShapes) {
    for (const RowFormat& format : formats_of(shape)) {
      const PagedAttention config = config_of(shape, format);
      PagedRows rows(format, shape.kv_heads);
      rows.fill(shape.rows, rng);
      const int64_t queries = std::min<int64_t>(9, shape.rows), first = shape.rows - queries;
      const std::vector<float> q = normals(rng, queries * shape.q_heads * shape.k_dim);
      const auto& heads = rows.views();
      const Accuracy accuracy(config, queries, first, q, heads);
      for_each_target([&] {
        SCOPED_TRACE(name_of(config));
        accuracy.expect(attend(config, queries, first, q, heads, 2, queries));
        accuracy.expect(attend(config, queries, first, q, heads, 1, 1));
      });
    }
  }
}

TEST(PagedAttention, MatchesFloat64WithWindowSinkAndSoftcap) {
  Rng rng(22);
  const Shape shape{4, 2, 64, 64, 300};
  for (const RowFormat& format : formats_of(shape)) {
    for (const auto& [window, sink] : std::vector<std::pair<int64_t, int64_t>>{
             {0, 0}, {1, 0}, {64, 0}, {100, 4}, {70, 200}, {5000, 4}}) {
      for (const float softcap : {0.0f, 2.0f, 50.0f}) {
        PagedAttention config = config_of(shape, format);
        config.window.window = window;
        config.window.sink = sink;
        config.softcap = softcap;
        SCOPED_TRACE(name_of(config));
        PagedRows rows(format, 2);
        rows.fill(shape.rows, rng);
        const std::vector<float> q = normals(rng, 5 * 4 * 64);
        const auto& heads = rows.views();
        Accuracy(config, 5, 290, q, heads).expect(attend(config, 5, 290, q, heads, 1, 5));
      }
    }
  }
}

TEST(PagedAttention, PrefillOfTheWholeTextMatchesFloat64) {
  Rng rng(23);
  const Shape shape{9, 3, 64, 64, 150};
  for (const RowFormat& format : formats_of(shape)) {
    const PagedAttention config = config_of(shape, format);
    SCOPED_TRACE(name_of(config));
    PagedRows rows(format, 3);
    rows.fill(150, rng);
    const std::vector<float> q = normals(rng, 150 * 9 * 64);
    const auto& heads = rows.views();
    Accuracy(config, 150, 0, q, heads).expect(attend(config, 150, 0, q, heads, 2, 150));
  }
}

TEST(PagedAttention, ChunksAndThreadsDoNotChangeABit) {
  using Schedule = std::pair<int, int64_t>;
#if defined(MNEME_SANITIZED)  // the same code, in minutes less
  constexpr int64_t kShare = 4;
  const std::vector<Schedule> schedules{{2, 7}, {3, 30}};
#else
  constexpr int64_t kShare = 1;
  const std::vector<Schedule> schedules{{1, 1}, {1, 63}, {2, 7}, {2, 65}, {3, 30}};
#endif
  for_each_target([&schedules] {
    Rng rng(24);
    for (const Shape& shape : {Shape{9, 3, 64, 64, 700 / kShare}, Shape{4, 1, 80, 48, 400 / kShare},
                               Shape{2, 2, 192, 128, 400 / kShare}}) {
      for (const RowFormat& format : formats_of(shape)) {
        for (const int64_t window : {0, 150}) {
          PagedAttention config = config_of(shape, format);
          config.window.window = window;
          config.window.sink = window > 0 ? 3 : 0;
          SCOPED_TRACE(name_of(config));
          PagedRows rows(format, shape.kv_heads);
          rows.fill(shape.rows, rng);
          const int64_t queries = 65, first = shape.rows - queries - 20;
          const std::vector<float> q = normals(rng, queries * shape.q_heads * shape.k_dim);
          const auto& heads = rows.views();
          const std::vector<float> once = attend(config, queries, first, q, heads, 1, queries);
          for (const auto& [threads, chunk] : schedules) {
            EXPECT_TRUE(same_bits(once, attend(config, queries, first, q, heads, threads, chunk)))
                << threads << " threads, chunks of " << chunk;
          }
        }
      }
    }
  });
}

TEST(PagedAttention, RowsThatNobodySeesDoNotChangeABit) {
  Rng rng(25);
  const Shape shape{6, 2, 64, 64, 900};
  for (const RowFormat& format : formats_of(shape)) {
    PagedAttention config = config_of(shape, format);
    SCOPED_TRACE(name_of(config));
    PagedRows all(format, 2), past(format, 2);
    Rng twin = rng;
    all.fill(900, rng);
    std::vector<float> k(64), v(64);
    for (int64_t head = 0; head < 2; ++head) {  // the same stream of rows, those after 700 left out
      for (int32_t row = 0; row < 900; ++row) {
        for (float& x : k) x = static_cast<float>(twin.normal());
        for (float& x : v) x = static_cast<float>(twin.normal());
        if (row <= 700) past.append(head, row, k.data(), v.data());
      }
    }
    const std::vector<float> q = normals(rng, 3 * 6 * 64);
    EXPECT_TRUE(same_bits(attend(config, 3, 698, q, all.views(), 1, 3),
                          attend(config, 3, 698, q, past.views(), 1, 3)))
        << "future rows";

    config.window.window = 200;
    config.window.sink = 4;
    const std::vector<float> masked = attend(config, 3, 698, q, all.views(), 1, 3);
    for (int64_t head = 0; head < 2; ++head) {
      for (int page = 0; page < 6; ++page) all.drop_page(head, 1);  // positions 64..447
    }
    EXPECT_TRUE(same_bits(masked, attend(config, 3, 698, q, all.views(), 1, 3))) << "one thread";
    EXPECT_TRUE(same_bits(masked, attend(config, 3, 698, q, all.views(), 3, 1))) << "dropped pages";
  }
}

TEST(PagedAttention, WindowOverTheWholeTextIsNoWindow) {
  Rng rng(26);
  const Shape shape{6, 2, 64, 64, 600};
  for (const RowFormat& format : formats_of(shape)) {
    PagedAttention config = config_of(shape, format);
    PagedRows rows(format, 2);
    rows.fill(600, rng);
    const std::vector<float> q = normals(rng, 50 * 6 * 64);
    const std::vector<float> without = attend(config, 50, 550, q, rows.views(), 1, 50);
    config.window.window = 600;
    EXPECT_TRUE(same_bits(without, attend(config, 50, 550, q, rows.views(), 1, 50)))
        << name_of(config);
  }
}

TEST(PagedAttention, WindowsOfBlocksAndOfEveryHeadMatchFloat64) {
  Rng rng(31);
  const RowFormat format{RowEncoding::kF16, 64, 64};
  PagedRows rows(format, 2);
  rows.fill(300, rng);
  const RowWindow windows[] = {{64, 32, 32}, {100, 3, 1}};
  PagedAttention config{format, 4, 2, 0.125f};
  config.head_windows = windows;
  const std::vector<float> q = normals(rng, 90 * 4 * 64);
  std::vector<float> out(q.size());
  ThreadPool pool(2);
  AttentionScratch scratch;
  paged_attention(config, 90, 210, q.data(), rows.views(), out.data(), scratch, pool);
  const auto exact = naive_attention<double>(config, 90, 210, q.data(), rows.views());
  for (size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(out[i], exact[i], 2e-6) << i;
}

TEST(PagedAttention, ExplicitPositionsWithGapsAndRaggedHeads) {
  Rng rng(27);
  for (const RowFormat& format : formats_of({4, 2, 64, 64, 0})) {
    PagedAttention config{format, 4, 2, 0.125f};
    config.window.window = 300;
    config.window.sink = 10;
    SCOPED_TRACE(name_of(config));
    PagedRows rows(format, 2);
    int32_t position = 0;
    for (int row = 0; row < 300; ++row, position += 1 + static_cast<int32_t>(rng.below(6))) {
      const std::vector<float> k = normals(rng, 64), v = normals(rng, 64);
      rows.append(0, position, k.data(), v.data());
      if (row % 3 == 0) rows.append(1, position, k.data(), v.data(), row % 21 == 0);
    }
    const std::vector<float> q = normals(rng, 40 * 4 * 64);
    const auto heads = rows.views();
    const std::vector<float> got = attend(config, 40, position - 60, q, heads, 2, 40);
    Accuracy(config, 40, position - 60, q, heads).expect(got);
    EXPECT_TRUE(same_bits(got, attend(config, 40, position - 60, q, heads, 3, 1)));
  }
}

TEST(PagedAttention, ExplicitConsecutivePositionsAreTheImplicitOnes) {
  Rng rng(28);
  const RowFormat format{RowEncoding::kF16, 64, 64};
  const PagedAttention config{format, 3, 1, 0.125f};
  PagedRows rows(format, 1);
  rows.fill(200, rng);
  const std::vector<float> q = normals(rng, 20 * 3 * 64);
  const std::vector<float> implicit = attend(config, 20, 150, q, rows.views(false), 1, 20);
  EXPECT_TRUE(same_bits(implicit, attend(config, 20, 150, q, rows.views(true), 1, 20)));
}

TEST(PagedAttention, QueriesThatSeeNothingGetZeros) {
  Rng rng(29);
  for (const RowFormat& format : formats_of({4, 2, 64, 64, 0})) {
    PagedAttention config{format, 4, 2, 0.125f};
    config.window.window = 20;
    PagedRows rows(format, 2);  // positions 10..39 in head 0, none in head 1
    for (int32_t row = 10; row < 40; ++row) {
      rows.append(0, row, normals(rng, 64).data(), normals(rng, 64).data());
    }
    for (const int threads : {1, 2}) {
      const std::vector<float> q = normals(rng, 100 * 4 * 64);
      const std::vector<float> out = attend(config, 100, 0, q, rows.views(), threads, 100);
      for (int64_t t = 0; t < 100; ++t) {
        for (int64_t h = 0; h < 4; ++h) {
          const float* o = out.data() + (t * 4 + h) * 64;
          const bool sees = h < 2 && t >= 10 && t < 59;
          EXPECT_EQ(std::all_of(o, o + 64, [](float x) { return x == 0; }), !sees) << t << " " << h;
        }
      }
    }
  }
}

TEST(PagedAttention, LargeScoresNeitherOverflowNorVanish) {
  Rng rng(30);
  const RowFormat format{RowEncoding::kF32, 64, 64};
  const PagedAttention config{format, 1, 1, 1000.0f};
  PagedRows rows(format, 1);
  rows.fill(300, rng);
  const std::vector<float> q = normals(rng, 4 * 64);
  const std::vector<float> got = attend(config, 4, 290, q, rows.views(), 1, 4);
  // Scores in the tens of thousands: rounding moves weights, so only the hard choice is compared.
  const std::vector<double> want = naive_attention<double>(config, 4, 290, q.data(), rows.views());
  EXPECT_LE(worst(got, want), 0.2);
}

TEST(PagedAttention, ADecodeStepAllocatesNothingTwice) {
  Rng rng(31);
  const RowFormat format{RowEncoding::kF16, 64, 64};
  const PagedAttention config{format, 9, 3, 0.125f};
  PagedRows rows(format, 3);
  rows.fill(2000, rng);
  ThreadPool pool(2);
  AttentionScratch scratch;
  const std::vector<float> q = normals(rng, 9 * 64);
  std::vector<float> out(9 * 64);
  paged_attention(config, 1, 1999, q.data(), rows.views(), out.data(), scratch, pool);
  const int64_t bytes = scratch.bytes();
  paged_attention(config, 1, 1999, q.data(), rows.views(), out.data(), scratch, pool);
  EXPECT_EQ(scratch.bytes(), bytes);
  EXPECT_LT(bytes, 2'000'000);
}

std::string refusal(PagedAttention config, std::vector<PageView> pages, int64_t queries = 1,
                    size_t heads = 1) {
  ThreadPool pool(1);
  AttentionScratch scratch;
  std::vector<float> q(4096), out(4096);
  const std::vector<std::span<const PageView>> views(heads, pages);
  try {
    paged_attention(config, queries, 100, q.data(), views, out.data(), scratch, pool);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(PagedAttention, RefusesWhatDoesNotFit) {
  const RowFormat format{RowEncoding::kF16, 64, 64};
  const PagedAttention good{format, 3, 1, 0.125f};
  std::vector<std::byte> page(static_cast<size_t>(format.page_bytes()));
  const PageView first{page.data(), nullptr, 0, 64}, second{page.data(), nullptr, 64, 3};
  EXPECT_EQ(refusal(good, {first, second}), "accepted");
  EXPECT_EQ(refusal(good, {}), "accepted");
  EXPECT_THAT(refusal({format, 3, 2, 0.125f}, {first}, 1, 2), HasSubstr("got 3 and 2"));
  EXPECT_THAT(refusal(good, {first}, 1, 2), HasSubstr("pages of 1 KV heads, got 2"));
  EXPECT_THAT(refusal({{RowEncoding::kQ4, 64, 64, 48}, 3, 1}, {first}), HasSubstr("groups of 48"));
  EXPECT_THAT(refusal(good, {second, first}),
              HasSubstr("begins at position 0, expected one after 66"));
  EXPECT_THAT(refusal(good, {{page.data(), nullptr, 0, 65}}), HasSubstr("1 to 64 rows, got 65"));
  EXPECT_THAT(refusal(good, {{nullptr, nullptr, 0, 1}}), HasSubstr("no data"));
  EXPECT_THAT(refusal(good, {first}, -1), HasSubstr("got -1 and 100"));
  PagedAttention bad = good;
  bad.window.window = -1;
  EXPECT_THAT(refusal(bad, {first}), HasSubstr("got -1 and 0"));
  bad = good;
  bad.softcap = -2;
  EXPECT_THAT(refusal(bad, {first}), HasSubstr("got -2"));
  bad = good;
  bad.scale = std::numeric_limits<float>::infinity();
  EXPECT_THAT(refusal(bad, {first}), HasSubstr("finite scale"));
}

}  // namespace
}  // namespace mneme
