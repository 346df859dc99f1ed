// Tests see the target that only attention is built for.
#define HWY_WANT_AVX3_DL
#include "mneme/kernels/attention_sums.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "mneme/core/error.h"
#include "mneme/kernels/attention_testing.h"
#include "mneme/kernels/targets_testing.h"

namespace mneme {
namespace {

using testing::DecodedRows;
using ::testing::HasSubstr;
using testing::naive_weights;
using testing::normals;
using testing::PagedRows;
using testing::RoundingError;

using Heads = std::vector<std::span<const PageView>>;
using Sums = std::vector<std::vector<double>>;  // [kv_heads][rows]

constexpr int64_t kDim = 64;

Sums zeros_for(const Heads& heads) {
  Sums sums;
  for (const auto& pages : heads) {
    int64_t rows = 0;
    for (const PageView& page : pages) rows += page.rows;
    sums.emplace_back(static_cast<size_t>(rows));
  }
  return sums;
}

// Adds to `sums`; returns the answers.
std::vector<float> attend(const PagedAttention& config, int64_t queries, int64_t first,
                          const std::vector<float>& q, const Heads& heads, int threads,
                          int64_t chunk, Sums* sums) {
  ThreadPool pool(threads);
  AttentionScratch scratch;
  std::vector<std::span<double>> spans;
  if (sums != nullptr) spans.assign(sums->begin(), sums->end());
  std::vector<float> out(static_cast<size_t>(queries * config.q_heads * kDim));
  for (int64_t at = 0; at < queries; at += chunk) {
    const int64_t offset = at * config.q_heads * kDim;
    paged_attention(config, std::min(chunk, queries - at), first + at, q.data() + offset, heads,
                    out.data() + offset, scratch, pool, {.sums = spans});
  }
  return out;
}

std::vector<RowFormat> formats() {
  return {{RowEncoding::kF32, kDim, kDim},
          {RowEncoding::kF16, kDim, kDim},
          {RowEncoding::kQ8, kDim, kDim, 32, true},
          {RowEncoding::kQ4, kDim, kDim, 64},
          {RowEncoding::kQ4, kDim, kDim, 16}};
}

// Two KV heads that keep different rows, some in pages that are not full.
PagedRows ragged_rows(const RowFormat& format, Rng& rng, int32_t* end) {
  PagedRows rows(format, 2);
  int32_t position = 0;
  for (int row = 0; row < 500; ++row, position += 1 + static_cast<int32_t>(rng.below(3))) {
    const std::vector<float> k = normals(rng, kDim), v = normals(rng, kDim);
    rows.append(0, position, k.data(), v.data());
    if (row % 3 == 0) rows.append(1, position, k.data(), v.data(), row % 21 == 0);
  }
  *end = position;
  return rows;
}

void expect_naive_sums(const PagedAttention& config, int64_t queries, int64_t first,
                       const std::vector<float>& q, const Heads& heads, const Sums& got) {
  const int64_t ratio = config.q_heads / config.kv_heads;
  for (size_t head = 0; head < heads.size(); ++head) {
    const DecodedRows rows(config.format, heads[head]);
    std::vector<double> want(got[head].size()), slack(got[head].size());
    for (int64_t t = 0; t < queries; ++t) {
      for (int64_t h = 0; h < ratio; ++h) {
        const float* query =
            q.data() + (t * config.q_heads + static_cast<int64_t>(head) * ratio + h) * kDim;
        const auto exact = naive_weights<double>(config, first + t, query, rows);
        const auto plain = naive_weights<float>(config, first + t, query, rows);
        const auto variance = RoundingError(config).score_variance(query, rows);
        const double most = variance.empty() ? 0 : *std::ranges::max_element(variance);
        for (size_t j = 0; j < want.size(); ++j) {
          want[j] += exact[j];
          // Six deviations of the row's score and of the logarithm of the sum.
          slack[j] += 2 * std::abs(exact[j] - plain[j]) + 12 * std::sqrt(most) * exact[j] +
                      2e-6 * exact[j] + kWeightUnit;
        }
      }
    }
    for (size_t j = 0; j < want.size(); ++j) {
      ASSERT_LE(std::abs(got[head][j] - want[j]), slack[j]) << "KV head " << head << " row " << j;
    }
  }
}

TEST(AttentionSums, AreTheWeightsOfTheDefinition) {
  for_each_target([] {
    Rng rng(41);
    for (const RowFormat& format : formats()) {
      for (const int64_t window : {0, 300}) {
        PagedAttention config{format, 6, 2, 0.125f};
        config.window.window = window;
        config.window.sink = window > 0 ? 10 : 0;
        SCOPED_TRACE(concat(row_encoding_name(format.encoding), " window ", window));
        int32_t end = 0;
        PagedRows rows = ragged_rows(format, rng, &end);
        const Heads heads = rows.views();
        const std::vector<float> q = normals(rng, 40 * 6 * kDim);
        for (const auto& [queries, first] : {std::pair<int64_t, int64_t>{1, end}, {40, end - 60}}) {
          Sums sums = zeros_for(heads);
          attend(config, queries, first, q, heads, 2, queries, &sums);
          expect_naive_sums(config, queries, first, q, heads, sums);
        }
      }
    }
  });
}

TEST(AttentionSums, ChunksAndThreadsDoNotChangeABit) {
  Rng rng(42);
  for (const RowFormat& format : formats()) {
    PagedAttention config{format, 6, 2, 0.125f};
    config.softcap = 20;
    SCOPED_TRACE(row_encoding_name(format.encoding));
    int32_t end = 0;
    PagedRows rows = ragged_rows(format, rng, &end);
    const Heads heads = rows.views();
    const int64_t queries = 70, first = end - 90;
    const std::vector<float> q = normals(rng, queries * 6 * kDim);
    Sums once = zeros_for(heads);
    const std::vector<float> out = attend(config, queries, first, q, heads, 1, queries, &once);
    EXPECT_EQ(out, attend(config, queries, first, q, heads, 1, queries, nullptr))
        << "asking for sums changes no answer";
    using Schedule = std::pair<int, int64_t>;
    for (const auto& [threads, chunk] : {Schedule{1, 1}, {1, 63}, {2, 7}, {2, 70}, {3, 30}}) {
      Sums sums = zeros_for(heads);
      attend(config, queries, first, q, heads, threads, chunk, &sums);
      EXPECT_EQ(once, sums) << threads << " threads, chunks of " << chunk;
    }
  }
}

// Every third row of full pages hidden, and a whole page.
std::vector<std::vector<PageView>> with_hidden_rows(const Heads& heads) {
  std::vector<std::vector<PageView>> views;
  for (const auto& pages : heads) {
    views.emplace_back(pages.begin(), pages.end());
    for (size_t i = 0; i < views.back().size(); ++i)
      views.back()[i].hidden = i == 2 ? ~uint64_t{0} : 0x4924924924924924u >> i % 3;
  }
  return views;
}

TEST(AttentionWeights, AreThoseOfTheDefinitionHiddenRowsToo) {
  for_each_target([] {
    Rng rng(45);
    for (const RowFormat& format : formats()) {
      const PagedAttention config{format, 6, 2, 0.125f};
      SCOPED_TRACE(row_encoding_name(format.encoding));
      int32_t end = 0;
      PagedRows rows = ragged_rows(format, rng, &end);
      const auto views = with_hidden_rows(rows.views());
      const Heads heads(views.begin(), views.end());
      const std::vector<float> q = normals(rng, 40 * 6 * kDim);
      const int64_t stride = 510;
      for (const auto& [asked, position, threads] :
           {std::tuple<int64_t, int64_t, int>{1, end, 2}, {40, end - 60, 1}, {40, end - 60, 2}}) {
        const int64_t queries = asked, first = position;  // clang captures no structured bindings
        std::vector<float> out(static_cast<size_t>(queries * 6 * kDim));
        std::vector<float> weights(static_cast<size_t>(queries * 6 * stride), -7.0f);
        ThreadPool pool(threads);
        AttentionScratch scratch;
        paged_attention(config, queries, first, q.data(), heads, out.data(), scratch, pool,
                        {.weights = weights.data(), .stride = stride});
        testing::for_each_answer(
            config, queries, heads, [&](int64_t t, int64_t h, const DecodedRows& held) {
              const float* query = q.data() + (t * 6 + h) * kDim;
              const float* got = weights.data() + (t * 6 + h) * stride;
              const auto exact = naive_weights<double>(config, first + t, query, held);
              const auto plain = naive_weights<float>(config, first + t, query, held);
              const auto variance = RoundingError(config).score_variance(query, held);
              const double most = variance.empty() ? 0 : *std::ranges::max_element(variance);
              for (int64_t j = 0; j < held.size(); ++j) {
                const auto at = static_cast<size_t>(j);
                ASSERT_LE(
                    std::abs(got[j] - exact[at]),
                    2 * std::abs(exact[at] - plain[at]) + (12 * std::sqrt(most) + 2e-6) * exact[at])
                    << "query " << t << " head " << h << " row " << j;
              }
              ASSERT_EQ(got[held.size()], -7.0f) << "nothing is written beyond the rows";
            });
      }
    }
  });
}

TEST(AttentionWeights, HiddenRowsAreAsGoodAsGone) {
  Rng rng(46);
  for (const RowFormat& format : formats()) {
    const PagedAttention config{format, 6, 2, 0.125f};
    int32_t end = 0;
    PagedRows rows = ragged_rows(format, rng, &end);
    const auto views = with_hidden_rows(rows.views());
    const Heads heads(views.begin(), views.end());
    const std::vector<float> q = normals(rng, 20 * 6 * kDim);
    const std::vector<float> got = attend(config, 20, end - 30, q, heads, 2, 20, nullptr);
    const auto exact = testing::naive_attention<double>(config, 20, end - 30, q.data(), heads);
    for (size_t i = 0; i < got.size(); ++i)
      ASSERT_NEAR(got[i], exact[i], 2e-4) << row_encoding_name(format.encoding) << " " << i;
  }
}

TEST(AttentionWeights, RefuseAStrideShorterThanTheRows) {
  Rng rng(47);
  const PagedAttention config{{RowEncoding::kF16, kDim, kDim}, 2, 1, 0.125f};
  PagedRows rows(config.format, 1);
  rows.fill(70, rng);
  const std::vector<float> q = normals(rng, 2 * kDim);
  std::vector<float> out(2 * kDim), weights(140);
  ThreadPool pool(1);
  AttentionScratch scratch;
  try {
    paged_attention(config, 1, 70, q.data(), rows.views(), out.data(), scratch, pool,
                    {.weights = weights.data(), .stride = 69});
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(),
                HasSubstr("expected weights of a stride of at least 70 for KV head 0, got 69"));
  }
}

TEST(AttentionSums, AddUpToTheQueriesThatSeeSomething) {
  Rng rng(43);
  const RowFormat format{RowEncoding::kQ4, kDim, kDim};
  const PagedAttention config{format, 6, 2, 0.125f};
  PagedRows rows(format, 2);  // positions 20..119 in head 0, none in head 1
  for (int32_t row = 20; row < 120; ++row) {
    rows.append(0, row, normals(rng, kDim).data(), normals(rng, kDim).data());
  }
  const Heads heads = rows.views();
  const std::vector<float> q = normals(rng, 50 * 6 * kDim);
  Sums sums = zeros_for(heads);
  attend(config, 50, 0, q, heads, 2, 50, &sums);
  double total = 0;
  for (const double sum : sums[0]) total += sum;
  EXPECT_NEAR(total, 3 * 30, 1e-4) << "queries 20..49, three heads each";
  EXPECT_TRUE(std::all_of(sums[0].begin() + 30, sums[0].end(), [](double x) { return x == 0; }))
      << "rows in the future";
  const Sums once = sums;
  attend(config, 50, 0, q, heads, 2, 50, &sums);
  for (size_t j = 0; j < sums[0].size(); ++j) EXPECT_EQ(sums[0][j], 2 * once[0][j]) << "they add";
}

TEST(AttentionSums, RefuseWhatDoesNotFit) {
  Rng rng(44);
  const RowFormat format{RowEncoding::kF16, kDim, kDim};
  const PagedAttention config{format, 2, 1, 0.125f};
  PagedRows rows(format, 1);
  rows.fill(70, rng);
  const std::vector<float> q = normals(rng, 2 * kDim);
  const auto refusal = [&](Sums sums) {
    try {
      attend(config, 1, 70, q, rows.views(), 1, 1, &sums);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_EQ(refusal({std::vector<double>(70)}), "accepted");
  EXPECT_THAT(refusal({std::vector<double>(69)}),
              HasSubstr("70 weight sums for KV head 0, got 69"));
  EXPECT_THAT(refusal({std::vector<double>(70), {}}), HasSubstr("of 1 KV heads, got 2"));
}

}  // namespace
}  // namespace mneme
