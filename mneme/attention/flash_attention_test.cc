#include "mneme/attention/flash_attention.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "tests/support/error_of.h"

namespace mneme {
namespace {

using at::Tensor;
using testing::error_of;

Tensor normal(at::IntArrayRef shape, at::ScalarType type) {
  return at::randn(shape, at::TensorOptions().dtype(at::kDouble)).to(type).set_requires_grad(true);
}

// ATen's attention by its parts, over [B, S, H, D].
Tensor plain(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask) {
  const int64_t group = q.size(2) / k.size(2);
  const Tensor heads_q = q.transpose(1, 2);
  const Tensor heads_k = k.transpose(1, 2).repeat_interleave(group, 1);
  const Tensor heads_v = v.transpose(1, 2).repeat_interleave(group, 1);
  const double scale = 1 / std::sqrt(static_cast<double>(q.size(3)));
  const Tensor scores = heads_q.matmul(heads_k.transpose(-2, -1)) * scale;
  const Tensor weights =
      scores.masked_fill(mask.logical_not(), -std::numeric_limits<double>::infinity()).softmax(-1);
  return weights.matmul(heads_v).transpose(1, 2);
}

double error(const Tensor& got, const Tensor& want) {
  return (got.to(at::kDouble) - want).abs().max().item<double>();
}

Tensor wide(const Tensor& x) { return x.detach().to(at::kDouble).set_requires_grad(true); }

std::vector<Tensor> gradients(const Tensor& o, const std::vector<Tensor>& inputs,
                              const Tensor& dout) {
  return torch::autograd::grad({o}, inputs, {dout});
}

TEST(FlashAttentionTensor, ErrsNoMoreThanATenInTheSameType) {
  at::manual_seed(1);
  struct Case {
    int64_t batch, q_len, k_len, heads, kv_heads, dim;
  };
  for (const auto& c :
       {Case{1, 63, 63, 3, 1, 64}, Case{3, 100, 120, 2, 2, 33}, Case{1, 1, 1000, 6, 2, 80}}) {
    for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble}) {
      const Tensor q = normal({c.batch, c.q_len, c.heads, c.dim}, type);
      const Tensor k = normal({c.batch, c.k_len, c.kv_heads, c.dim}, type);
      const Tensor v = normal({c.batch, c.k_len, c.kv_heads, c.dim}, type);
      const Tensor mask = at::ones({c.q_len, c.k_len}, at::kBool).tril(c.k_len - c.q_len);
      const auto [o, lse] = flash_attention(q, k, v, {.causal = true});
      const Tensor theirs = plain(q, k, v, mask);
      const Tensor q64 = wide(q), k64 = wide(k), v64 = wide(v);
      const Tensor want = plain(q64, k64, v64, mask);
      const double floor = type == at::kDouble ? 1e-14 : type == at::kFloat ? 3e-7 : 2e-3;
      EXPECT_LE(error(o, want), 2 * error(theirs, want) + floor) << c10::toString(type);
      EXPECT_EQ(lse.scalar_type(), type == at::kDouble ? at::kDouble : at::kFloat);
      const Tensor dout = at::randn_like(o);
      const auto got = gradients(o, {q, k, v}, dout), aten = gradients(theirs, {q, k, v}, dout);
      const auto exact = gradients(want, {q64, k64, v64}, dout.to(at::kDouble));
      for (size_t i = 0; i < 3; ++i) {
        EXPECT_LE(error(got[i], exact[i]), 3 * error(aten[i], exact[i]) + 3 * floor)
            << c10::toString(type) << " gradient " << i;
      }
    }
  }
}

TEST(FlashAttentionTensor, BothLayoutsAndViewsAreReadInPlace) {
  at::manual_seed(2);
  const Tensor q = normal({2, 40, 4, 16}, at::kFloat), k = normal({2, 50, 2, 16}, at::kFloat),
               v = normal({2, 50, 2, 16}, at::kFloat);
  const Tensor want = std::get<0>(flash_attention(q, k, v));
  const auto first = [](const Tensor& x) { return x.transpose(1, 2); };
  const FlashOptions heads_first = {.heads_first = true};
  EXPECT_TRUE(
      first(std::get<0>(flash_attention(first(q), first(k), first(v), heads_first))).equal(want));
  EXPECT_TRUE(first(std::get<0>(flash_attention(first(q).contiguous(), first(k).contiguous(),
                                                first(v).contiguous(), heads_first)))
                  .equal(want));
  // A gradient that is one number, expanded.
  const auto got = gradients(want.sum(), {q}, at::ones({}));
  EXPECT_GT(got[0].abs().max().item<double>(), 0);
}

TEST(FlashAttentionTensor, PackedEqualsSingle) {
  at::manual_seed(3);
  const Tensor q = normal({30, 4, 16}, at::kFloat), k = normal({45, 2, 16}, at::kFloat),
               v = normal({45, 2, 16}, at::kFloat);
  const auto lengths = [](std::vector<int32_t> x) {
    return at::tensor(at::ArrayRef<int32_t>(x), at::TensorOptions().dtype(at::kInt));
  };
  const auto [o, lse] = flash_attention_varlen(q, k, v, lengths({0, 10, 10, 30}),
                                               lengths({0, 12, 20, 45}), {.causal = true});
  const auto part = [](const Tensor& x, int64_t begin, int64_t end) {
    return x.slice(0, begin, end).unsqueeze(0);
  };
  const Tensor single = std::get<0>(
      flash_attention(part(q, 10, 30), part(k, 20, 45), part(v, 20, 45), {.causal = true}));
  EXPECT_TRUE(single.squeeze(0).equal(o.slice(0, 10, 30)));
  EXPECT_EQ(lse.sizes(), (std::vector<int64_t>{4, 30}));
}

TEST(FlashAttentionTensor, BackwardDropsWhatForwardDropped) {
  at::manual_seed(4);
  const Tensor q = normal({1, 20, 2, 8}, at::kFloat), k = normal({1, 20, 2, 8}, at::kFloat),
               v = normal({1, 20, 2, 8}, at::kFloat);
  const FlashOptions options = {.dropout_p = 0.5, .dropout_seed = 11};
  // o is linear in v, so its gradient by v contracted with v gives back sum(o * dout).
  const Tensor o = std::get<0>(flash_attention(q, k, v, options));
  const Tensor dout = at::randn_like(o);
  const Tensor dv = gradients(o, {v}, dout)[0];
  EXPECT_NEAR((dv * v).sum().item<double>(), (o * dout).sum().item<double>(), 1e-4);
}

TEST(FlashAttentionTensor, SaysWhatDoesNotFit) {
  const Tensor q = at::zeros({1, 4, 4, 8}), k = at::zeros({1, 4, 2, 8});
  EXPECT_EQ(error_of([&] {
              flash_attention(q, k, at::zeros({1, 4, 2, 9}));
            }),
            "flash_attention: k and v must have one shape, got [1, 4, 2, 8] and [1, 4, 2, 9]");
  EXPECT_EQ(error_of([&] { flash_attention(q, k.to(at::kDouble), k); }),
            "flash_attention: q, k and v must have one type, got Float and Double");
  EXPECT_EQ(error_of([&] {
              flash_attention(q, at::zeros({1, 4, 2, 9}), at::zeros({1, 4, 2, 9}));
            }),
            "flash_attention: head sizes of q and k differ: 8 and 9");
  EXPECT_EQ(error_of([&] { flash_attention(q, k, k, {.alibi_slopes = at::zeros({3})}); }),
            "flash_attention: alibi_slopes must be contiguous float32 [4] or [1, 4], got Float of "
            "shape [3]");
  EXPECT_EQ(error_of([&] { flash_attention(q, k, k, {.dropout_offset = -1}); }),
            "flash_attention: dropout_offset must be in [0, 2^32), got -1");
  const Tensor packed = at::zeros({4, 2, 8});
  EXPECT_EQ(error_of([&] {
              flash_attention_varlen(packed, packed, packed, at::zeros({2}), at::zeros({2}));
            }),
            "flash_attention: cu_seqlens must be contiguous int32 [B + 1] on the CPU, got Float of "
            "shape [2]");
}

}  // namespace
}  // namespace mneme
