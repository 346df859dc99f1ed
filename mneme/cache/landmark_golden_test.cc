// Golden attn_* of papers/39: the streaming core in float64 (selection, positions, grouped softmax as
// this library does them) and LandmarkMemory in float32.
#include <gtest/gtest.h>

#include "mneme/cache/landmark_testing.h"
#include "tests/support/golden.h"

namespace mneme {
namespace {

// [heads, tokens, dim] -> [tokens, heads, dim]
template <typename T>
std::vector<T> by_token(const std::vector<T>& rows, const std::vector<int64_t>& shape) {
  std::vector<T> out(rows.size());
  for (int64_t h = 0; h < shape[0]; ++h)
    for (int64_t t = 0; t < shape[1]; ++t)
      std::copy_n(rows.begin() + (h * shape[1] + t) * shape[2], shape[2],
                  out.begin() + (t * shape[0] + h) * shape[2]);
  return out;
}

TEST(GoldenLandmarkMemory, StreamsLikeTheReference) {
  const auto file = testing::GoldenFile::open("39-landmark-attention");
  if (file == nullptr) GTEST_SKIP();
  int cases = 0;
  for (const testing::GoldenCase& golden : file->cases()) {
    if (golden.kind() != "attn") continue;
    SCOPED_TRACE(golden.name());
    ++cases;
    const auto& config = golden.config();
    const auto q_shape = golden.shape("in.q"), k_shape = golden.shape("in.k");
    const int64_t tokens = q_shape[1], dim = q_shape[2],
                  block = config.at("block_len_with_landmark");
    const bool halves = config.at("rope_pairs") == "halves";
    const MemoryShape shape{
        .q_heads = q_shape[0],
        .kv_heads = k_shape[0],
        .k_dim = dim,
        .v_dim = golden.shape("in.v")[2],
        .context = 1 << 20,
        .windows = {0},
        .rotary = {{.pairs = halves ? RopePairs::kHalves : RopePairs::kInterleaved,
                    .base = config.at("rope_theta")}}};
    const std::vector<int64_t> landmarks = golden.integers("in.is_landmark");
    for (int64_t t = 0; t < tokens; ++t) ASSERT_EQ(landmarks[t], t % block == block - 1) << t;
    const testing::LandmarkRows<double> rows{
        tokens, by_token(golden.doubles("in.q"), q_shape),
        by_token(golden.doubles("in.k"), k_shape),
        by_token(golden.doubles("in.v"), golden.shape("in.v"))};
    const auto narrow = [](const std::vector<double>& x) {
      return std::vector<float>(x.begin(), x.end());
    };
    const testing::LandmarkText text{tokens, narrow(rows.q), narrow(rows.k), narrow(rows.v)};
    const int64_t chunk = config.at("chunk");
    std::vector<int64_t> steps;
    for (int64_t at = 0; at < tokens; at += steps.back())
      steps.push_back(std::min(chunk, tokens - at));

    const auto compare = [&](int64_t top, const std::string& part) {
      const std::vector<double> want = by_token(golden.doubles(part), golden.shape(part));
      const LandmarkOptions options{.block = block, .top = top, .chunk = 1 << 16};
      testing::NaiveLandmark naive(shape, options, rows);
      naive.scale = 1 / std::sqrt(static_cast<double>(dim));
      const std::vector<double> core = naive.answers(steps);
      ASSERT_EQ(core.size(), want.size());
      for (size_t i = 0; i < want.size(); ++i)
        ASSERT_NEAR(core[i], want[i],
                    golden.abs_tolerance() + golden.rel_tolerance() * std::abs(want[i]))
            << part << " " << i;
      LandmarkMemory memory("golden", shape, options);
      std::vector<float> answers;
      for (const int64_t step : steps)
        testing::landmark_step(memory, text, step, answers, static_cast<float>(naive.scale));
      EXPECT_LT(testing::worst(answers, want), 2e-6) << part;
      if (part == "out.out") {
        EXPECT_EQ(std::vector<int64_t>(naive.selected().begin(), naive.selected().end()),
                  golden.integers("out.selected_last_chunk"));
      }
    };
    compare(config.at("top_k"), "out.out");
    compare(tokens, "out.out_all_blocks");
  }
  EXPECT_GT(cases, 0);
}

}  // namespace
}  // namespace mneme
