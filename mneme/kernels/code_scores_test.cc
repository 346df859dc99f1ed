#include "mneme/kernels/code_scores.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "mneme/core/error.h"
#include "mneme/kernels/affine_quant.h"
#include "mneme/kernels/targets_testing.h"
#include "mneme/kernels/weight_testing.h"

namespace mneme {
namespace {

// Random rows, quantised, with their dequantised values.
struct Quantised {
  CodeRows view;
  std::vector<uint32_t> words;
  std::vector<float> scales, biases;
  std::vector<double> values;  // [rows, dim]

  Quantised(int64_t rows, int64_t dim, int bits, int64_t group) {
    const std::vector<float> x = random_floats(rows * dim, 1);
    const int64_t groups = dim / group, row_words = dim * bits / 32;
    words.resize(static_cast<size_t>(rows * row_words));
    scales.resize(static_cast<size_t>(rows * groups));
    biases.resize(scales.size());
    std::vector<uint8_t> codes(static_cast<size_t>(dim));
    for (int64_t r = 0; r < rows; ++r) {
      uint32_t* row = words.data() + r * row_words;
      affine_quantize_row(x.data() + r * dim, dim, bits, group, row, scales.data() + r * groups,
                          biases.data() + r * groups);
      affine_unpack(row, dim, bits, codes.data());
      for (int64_t i = 0; i < dim; ++i) {
        const auto at = static_cast<size_t>(r * groups + i / group);
        values.push_back(static_cast<double>(scales[at]) * codes[static_cast<size_t>(i)] +
                         static_cast<double>(biases[at]));
      }
    }
    view = {words.data(), scales.data(), biases.data(), rows, dim, bits, group};
  }
};

TEST(CodeScores, EqualFloat64OfTheQuantisedQueryAndStayWithinTheBound) {
  for_each_target([] {
    ThreadPool pool(2);
    for (const int bits : {8, 4}) {
      for (const auto& [dim, group] : std::vector<std::pair<int64_t, int64_t>>{
               {8, 8}, {64, 64}, {64, 32}, {40, 8}, {96, 48}, {128, 128}, {1000, 200}, {256, 32}}) {
        for (const int64_t count : {1, 63, 300}) {
          SCOPED_TRACE(testing::Message()
                       << bits << " bits, " << count << " x " << dim << " / " << group);
          const Quantised rows(count, dim, bits, group);
          const std::vector<float> q = random_floats(dim, 2);
          CodeQuery query;
          query.set(q.data(), dim, bits, group);
          std::vector<float> scores(static_cast<size_t>(count), NAN);
          score_rows(rows.view, query, scores.data(), pool);
          for (int64_t r = 0; r < count; ++r) {
            double of_codes = 0, of_query = 0, bound = 0, magnitude = 0;
            for (int64_t i = 0; i < dim; ++i) {
              const double unit = query.units()[i / group];
              const double value = rows.values[static_cast<size_t>(r * dim + i)];
              const double exact = q[static_cast<size_t>(i)];
              const int64_t within = i % group;
              const int64_t at = bits == 8 ? within : within / 2 + within % 2 * group / 2;
              const double code = query.codes()[i - within + at];
              ASSERT_NEAR(unit * code, exact, unit / 2 * 1.00001);
              of_codes += value * unit * code;
              of_query += value * exact;
              bound += std::abs(value) * unit / 2;
              magnitude += std::abs(value) * unit * 127;
            }
            const double got = scores[static_cast<size_t>(r)];
            // A few roundings of each group, the fold of scale and bias included.
            const double rounding = 8 * 0x1p-24 * magnitude;
            EXPECT_NEAR(got, of_codes, rounding + 1e-6 * bound);
            EXPECT_NEAR(got, of_query, bound + rounding);
          }
        }
      }
    }
  });
}

TEST(CodeScores, ARowAmongOthersHasTheSameBits) {
  for_each_target([] {
    ThreadPool one(1), two(2);
    const Quantised rows(3000, 64, 4, 32);
    CodeQuery query;
    query.set(random_floats(64, 5).data(), 64, 4, 32);
    std::vector<float> scores(3000), alone(3000);
    score_rows(rows.view, query, scores.data(), two);
    for (int64_t r = 0; r < 3000; ++r) {
      CodeRows row = rows.view;
      row.words += r * 8;
      row.scales += r * 2;
      row.biases += r * 2;
      row.rows = 1;
      score_rows(row, query, alone.data() + r, one);
    }
    EXPECT_EQ(scores, alone);
  });
}

TEST(CodeScores, TheLargestCodesDoNotOverflow) {
  for_each_target([] {
    ThreadPool pool(1);
    for (const int bits : {8, 4}) {
      const int64_t dim = 65536;
      std::vector<uint32_t> words(static_cast<size_t>(dim * bits / 32), ~0u);
      const float scale = 1, bias = 0;
      std::vector<float> q(static_cast<size_t>(dim), -1.0f);
      CodeQuery query;
      query.set(q.data(), dim, bits, dim);
      float score = 0;
      score_rows({words.data(), &scale, &bias, 1, dim, bits, dim}, query, &score, pool);
      const double want = -static_cast<double>(dim) * ((1 << bits) - 1);
      EXPECT_NEAR(score, want, 1e-6 * -want);
    }
  });
}

TEST(CodeScores, AQueryOfZerosOrOfSubnormalsScoresNothing) {
  ThreadPool pool(1);
  const Quantised rows(5, 64, 8, 64);
  for (const float value : {0.0f, 1e-45f}) {
    std::vector<float> q(64, value), scores(5, 7.0f);
    CodeQuery query;
    query.set(q.data(), 64, 8, 64);
    score_rows(rows.view, query, scores.data(), pool);
    for (const float score : scores) EXPECT_NEAR(score, 0, 1e-30);
  }
}

TEST(CodeScores, RejectsBadInput) {
  const auto message = [](const auto& call) -> std::string {
    try {
      call();
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  using ::testing::HasSubstr;
  std::vector<float> q(64, 1.0f);
  CodeQuery query;
  EXPECT_THAT(message([&] { query.set(q.data(), 64, 2, 16); }), HasSubstr("got 2"));
  EXPECT_THAT(message([&] { query.set(q.data(), 64, 4, 12); }), HasSubstr("multiple of 8, got 12"));
  EXPECT_THAT(message([&] { query.set(q.data(), 64, 8, 48); }),
              HasSubstr("multiple of the group 48, got 64"));
  q[3] = std::numeric_limits<float>::infinity();
  EXPECT_THAT(message([&] { query.set(q.data(), 64, 8, 64); }),
              HasSubstr("got inf at dimension 3"));
  q[3] = 0;
  query.set(q.data(), 64, 8, 64);
  ThreadPool pool(1);
  const Quantised rows(5, 64, 8, 32);
  EXPECT_THAT(message([&] { score_rows(rows.view, query, q.data(), pool); }),
              HasSubstr("groups of 32, but the query was set for 64, 8 and 64"));
}

}  // namespace
}  // namespace mneme
