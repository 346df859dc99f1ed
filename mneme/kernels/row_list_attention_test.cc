#include "mneme/kernels/row_list_attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "mneme/core/rng.h"
#include "mneme/kernels/attention_testing.h"
#include "mneme/kernels/targets_testing.h"
#include "tests/support/error_of.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::normals;

// Tokens in one run of bytes, with NaN wherever nothing was written.
class Tokens {
 public:
  Tokens(const RowListAttention& config, int64_t count, Rng& rng)
      : config_(config), stride_(config.token_bytes() + RowListAttention::kOverhang) {
    bytes_.assign(static_cast<size_t>(count * stride_), std::byte{0xff});
    for (int64_t i = 0; i < count; ++i) {
      config.write_token(normals(rng, config.kv_heads * config.k_dim).data(),
                         normals(rng, config.kv_heads * config.v_dim).data(), at(i));
      list_.push_back(at(i));
    }
  }
  std::byte* at(int64_t i) { return bytes_.data() + i * stride_; }
  std::vector<const std::byte*>& list() { return list_; }

 private:
  RowListAttention config_;
  int64_t stride_;
  std::vector<std::byte> bytes_;
  std::vector<const std::byte*> list_;
};

// The readable twin.
template <typename Real>
void naive(const RowListAttention& c, std::span<const std::byte* const> tokens, const float* q,
           std::vector<Real>& out, std::vector<Real>& weights) {
  const int64_t ratio = c.q_heads / c.kv_heads;
  out.assign(static_cast<size_t>(c.q_heads * c.v_dim), 0);
  weights.assign(tokens.size(), 0);
  std::vector<float> k(static_cast<size_t>(c.kv_heads * c.k_dim)),
      v(static_cast<size_t>(c.kv_heads * c.v_dim));
  for (int64_t h = 0; h < c.q_heads; ++h) {
    std::vector<Real> s(tokens.size());
    Real top = -std::numeric_limits<Real>::infinity(), sum = 0;
    for (size_t i = 0; i < tokens.size(); ++i) {
      c.read_token(tokens[i], k.data(), v.data());
      for (int64_t d = 0; d < c.k_dim; ++d)
        s[i] += Real{q[h * c.k_dim + d]} * Real{k[static_cast<size_t>(h / ratio * c.k_dim + d)]};
      s[i] *= Real{c.scale};
      if (c.softcap > 0) s[i] = Real{c.softcap} * std::tanh(s[i] / Real{c.softcap});
      top = std::max(top, s[i]);
    }
    for (Real& x : s) sum += x = std::exp(x - top);
    for (size_t i = 0; i < tokens.size(); ++i) {
      c.read_token(tokens[i], k.data(), v.data());
      weights[i] += s[i] / sum;
      for (int64_t d = 0; d < c.v_dim; ++d) {
        out[static_cast<size_t>(h * c.v_dim + d)] +=
            s[i] / sum * Real{v[static_cast<size_t>(h / ratio * c.v_dim + d)]};
      }
    }
  }
}

template <typename T>
double worst(const std::vector<T>& got, const std::vector<double>& want) {
  double worst = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double error = std::abs(double{got[i]} - want[i]);
    if (!(error <= worst)) worst = error;  // NaN too
  }
  return worst;
}

// At most twice the error of plain float32 code, and two units in the last place of what is read.
TEST(RowListAttention, MatchesFloat64OnEveryTargetAndShape) {
  const RowListAttention configs[] = {
      {.q_heads = 9, .kv_heads = 3, .k_dim = 64, .v_dim = 64, .scale = 0.125f},
      {.q_heads = 4, .kv_heads = 1, .k_dim = 256, .v_dim = 256, .scale = 0.0625f, .softcap = 2},
      {.q_heads = 1, .kv_heads = 1, .k_dim = 1, .v_dim = 1},
      {.q_heads = 14, .kv_heads = 2, .k_dim = 63, .v_dim = 100, .scale = 0.1f},
      {.q_heads = 2, .kv_heads = 2, .k_dim = 8, .v_dim = 17, .scale = 0.3f}};
  Rng rng(5);
  for (RowListAttention config : configs) {
    for (const DType dtype : {DType::kF32, DType::kF16}) {
      config.dtype = dtype;
      for (const int64_t count : {1, 63, 256, 257, 1000}) {
        Tokens tokens(config, count, rng);
        const std::vector<float> q = normals(rng, config.q_heads * config.k_dim);
        std::vector<double> want, want_weights;
        std::vector<float> plain, plain_weights;
        naive(config, tokens.list(), q.data(), want, want_weights);
        naive(config, tokens.list(), q.data(), plain, plain_weights);
        for_each_target([&] {
          SCOPED_TRACE(count);
          std::vector<float> out(want.size(), std::nanf("")), weights(tokens.list().size());
          std::vector<float> threaded = out;
          RowListScratch scratch;
          scratch.floats.assign(100000, std::nanf(""));
          ThreadPool one(1), two(2);
          row_list_attention(config, tokens.list(), q.data(), out.data(), weights.data(), scratch,
                             one);
          EXPECT_LE(worst(out, want), 2 * worst(plain, want) + 5e-7);
          EXPECT_LE(worst(weights, want_weights), 2 * worst(plain_weights, want_weights) + 5e-7);
          row_list_attention(config, tokens.list(), q.data(), threaded.data(), nullptr, scratch,
                             two);
          EXPECT_EQ(0, std::memcmp(out.data(), threaded.data(), out.size() * sizeof(float)));
        });
      }
    }
  }
}

TEST(RowListAttention, TokensGoInAndOutUnchanged) {
  const RowListAttention config{
      .dtype = DType::kF16, .q_heads = 2, .kv_heads = 2, .k_dim = 5, .v_dim = 3};
  std::vector<float> k(10), v(6), k2(10), v2(6);
  std::iota(k.begin(), k.end(), -3.0f);
  std::iota(v.begin(), v.end(), 20.0f);
  std::vector<std::byte> token(static_cast<size_t>(config.token_bytes()));
  config.write_token(k.data(), v.data(), token.data());
  config.read_token(token.data(), k2.data(), v2.data());
  EXPECT_EQ(k, k2);
  EXPECT_EQ(v, v2);
}

TEST(RowListAttention, RefusesBadInput) {
  RowListAttention config{
      .dtype = DType::kF16, .q_heads = 3, .kv_heads = 1, .k_dim = 4, .v_dim = 4};
  std::vector<float> k = {1, 2, 3, std::nanf("")}, v(4);
  std::vector<std::byte> token(16);
  EXPECT_THAT(error_of([&] { config.write_token(k.data(), v.data(), token.data()); }),
              HasSubstr("a number that F16 cannot store"));
  k[3] = 70000;
  EXPECT_THAT(error_of([&] { config.write_token(k.data(), v.data(), token.data()); }),
              HasSubstr("a number that F16 cannot store"));
  const auto refusal = [&] {
    ThreadPool pool(1);
    RowListScratch scratch;
    return error_of(
        [&] { row_list_attention(config, {}, nullptr, nullptr, nullptr, scratch, pool); });
  };
  EXPECT_THAT(refusal(), HasSubstr("no token"));
  config.kv_heads = 2;
  EXPECT_THAT(refusal(), HasSubstr("3 query heads are no multiple of 2"));
  config = {.dtype = DType::kU8, .q_heads = 1, .kv_heads = 1, .k_dim = 4, .v_dim = 4};
  EXPECT_THAT(refusal(), HasSubstr("F32 or F16"));
  config = {.q_heads = 1, .kv_heads = 1, .k_dim = 0, .v_dim = 4};
  EXPECT_THAT(refusal(), HasSubstr("got 0 and 4"));
}

}  // namespace
}  // namespace mneme
