// For the tests and the bench of flash attention: problems with known values, the naive twin that
// holds every score, and a call of ours with tensors of any type and layout, NaN between the rows.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <vector>

#include "mneme/core/half.h"
#include "mneme/core/rng.h"
#include "mneme/kernels/attention_testing.h"
#include "mneme/kernels/flash_attention.h"
#include "mneme/kernels/flash_dropout.h"
#include "mneme/kernels/paged_attention.h"

namespace mneme::testing {

struct FlashProblem {
  FlashAttention config;
  std::vector<float> q, k, v, dout;  // [B, S, H, D], or packed [total, H, D]

  int64_t q_size() const { return q_tokens() * config.q_heads * config.head_dim; }
  int64_t k_size() const { return k_tokens() * config.kv_heads * config.head_dim; }
  int64_t q_tokens() const { return (config.cu_q != nullptr ? 1 : config.batch) * config.q_len; }
  int64_t k_tokens() const { return (config.cu_k != nullptr ? 1 : config.batch) * config.k_len; }
  int64_t lse_size() const { return q_tokens() * config.q_heads; }
};

inline float rounded_to(DType dtype, float x) {
  if (dtype == DType::kBF16) return bf16_to_float(float_to_bf16(x));
  if (dtype == DType::kF16) return f16_to_float(float_to_f16(x));
  return x;
}

// Random normal values that the type can hold.
inline FlashProblem random_problem(const FlashAttention& config, uint64_t seed) {
  FlashProblem p{config, {}, {}, {}, {}};
  Rng rng(seed);
  p.q = normals(rng, p.q_size());
  p.k = normals(rng, p.k_size());
  p.v = normals(rng, p.k_size());
  p.dout = normals(rng, p.q_size());
  for (auto* x : {&p.q, &p.k, &p.v, &p.dout}) {
    for (float& value : *x) value = rounded_to(config.dtype, value);
  }
  return p;
}

struct FlashAnswer {
  std::vector<double> o, lse, dq, dk, dv;
};

// The definition in flash_attention.h with all scores in memory, in `Real` arithmetic; `round` is
// applied to what plain code of a 16-bit type would store: scores, weights, their gradients,
// results.
template <typename Real>
FlashAnswer naive_flash(const FlashProblem& p, const std::function<Real(Real)>& round,
                        bool gradients) {
  const FlashAttention& c = p.config;
  const int64_t dim = c.head_dim, ratio = c.q_heads / c.kv_heads;
  std::vector<Real> o(p.q.size()), dq(p.q.size()), dk(p.k.size()), dv(p.k.size());
  std::vector<Real> lse(static_cast<size_t>(p.lse_size()));
  for (int64_t b = 0; b < c.batch; ++b) {
    const bool packed = c.cu_q != nullptr;
    const int64_t q0 = packed ? c.cu_q[b] : b * c.q_len, k0 = packed ? c.cu_k[b] : b * c.k_len;
    const int64_t queries = packed ? c.cu_q[b + 1] - q0 : c.q_len;
    const int64_t keys = packed ? c.cu_k[b + 1] - k0 : c.k_len;
    for (int64_t h = 0; h < c.q_heads; ++h) {
      const auto row = [&](auto& x, int64_t token, int64_t heads, int64_t head) {
        return x.data() + (token * heads + head) * dim;
      };
      for (int64_t i = 0; i < queries; ++i) {
        const float* q = row(p.q, q0 + i, c.q_heads, h);
        const float* dout = row(p.dout, q0 + i, c.q_heads, h);
        Real* out = row(o, q0 + i, c.q_heads, h);
        std::vector<Real> score(static_cast<size_t>(keys)), bend(score.size(), 1),
            kept(score.size());
        std::vector<bool> seen(score.size());
        Real top = -std::numeric_limits<Real>::infinity(), sum = 0;
        for (int64_t j = 0; j < keys; ++j) {
          const auto at = static_cast<size_t>(j);
          const int64_t now = i + keys - queries;
          const int64_t right = c.causal ? 0 : c.window_right;
          if (right >= 0 && j > now + right) continue;
          if (c.window_left >= 0 && j < now - c.window_left) continue;
          seen[at] = true;
          const float* k = row(p.k, k0 + j, c.kv_heads, h / ratio);
          Real s = 0;
          for (int64_t x = 0; x < dim; ++x) s += Real{q[x]} * Real{k[x]};
          s = round(s) * static_cast<Real>(c.scale);
          if (c.softcap > 0) {
            const Real cap = static_cast<Real>(c.softcap), bent = std::tanh(s / cap);
            bend[at] = 1 - bent * bent;
            s = cap * bent;
          }
          if (c.alibi_slopes != nullptr) {
            const int64_t slope = c.alibi_per_batch ? b * c.q_heads + h : h;
            s -= Real{c.alibi_slopes[slope]} * static_cast<Real>(std::abs(now - j));
          }
          score[at] = round(s);
          top = std::max(top, score[at]);
          const bool keep = c.dropout == 0 || dropout_keeps(c.dropout_seed, c.dropout_offset,
                                                            b * c.q_heads + h, i, j, c.dropout);
          kept[at] = keep ? static_cast<Real>(1 / (1 - c.dropout)) : Real{0};
        }
        for (size_t j = 0; j < score.size(); ++j) {
          if (seen[j]) sum += std::exp(score[j] - top);
        }
        const int64_t lse_at = packed ? h * c.q_len + q0 + i : (b * c.q_heads + h) * c.q_len + i;
        lse[static_cast<size_t>(lse_at)] =
            sum > 0 ? top + std::log(sum) : std::numeric_limits<Real>::infinity();
        if (!(sum > 0)) continue;
        Real delta = 0;
        for (size_t j = 0; j < score.size(); ++j) {
          if (!seen[j]) continue;
          score[j] = round(std::exp(score[j] - top) / sum);  // the weight
          const float* v = row(p.v, k0 + static_cast<int64_t>(j), c.kv_heads, h / ratio);
          for (int64_t x = 0; x < dim; ++x) out[x] += score[j] * kept[j] * Real{v[x]};
        }
        for (int64_t x = 0; x < dim; ++x) {
          out[x] = round(out[x]);
          delta += Real{dout[x]} * out[x];
        }
        if (!gradients) continue;
        for (size_t j = 0; j < score.size(); ++j) {
          if (!seen[j]) continue;
          const auto token = k0 + static_cast<int64_t>(j);
          const float* k = row(p.k, token, c.kv_heads, h / ratio);
          const float* v = row(p.v, token, c.kv_heads, h / ratio);
          Real dp = 0;
          for (int64_t x = 0; x < dim; ++x) dp += Real{dout[x]} * Real{v[x]};
          const Real ds = round(score[j] * (round(dp) * kept[j] - delta) * bend[j]) *
                          static_cast<Real>(c.scale);
          for (int64_t x = 0; x < dim; ++x) {
            row(dv, token, c.kv_heads, h / ratio)[x] += score[j] * kept[j] * Real{dout[x]};
            row(dk, token, c.kv_heads, h / ratio)[x] += ds * Real{q[x]};
            row(dq, q0 + i, c.q_heads, h)[x] += ds * Real{k[x]};
          }
        }
      }
    }
  }
  const auto rounded = [&](std::vector<Real>& x) {
    std::vector<double> all;
    for (const Real value : x) all.push_back(static_cast<double>(round(value)));
    return all;
  };
  return {rounded(o), {lse.begin(), lse.end()}, rounded(dq), rounded(dk), rounded(dv)};
}

inline FlashAnswer exact_flash(const FlashProblem& p, bool gradients = true) {
  return naive_flash<double>(
      p, [](double x) { return x; }, gradients);
}
// The same in the problem's own type: what plain code errs by.
inline FlashAnswer plain_flash(const FlashProblem& p, bool gradients = true) {
  const DType dtype = p.config.dtype;
  return naive_flash<float>(
      p, [dtype](float x) { return rounded_to(dtype, x); }, gradients);
}

enum class FlashLayout { kTokenMajor, kHeadMajor, kPadded };

// A tensor [batch, tokens, heads, dim] in the type and layout asked for, NaN where it has no value.
class FlashTensor {
 public:
  FlashTensor(DType dtype, FlashLayout layout, int64_t batch, int64_t tokens, int64_t heads,
              int64_t dim)
      : dtype_(dtype), batch_(batch), tokens_(tokens), heads_(heads), dim_(dim) {
    strides_ = layout == FlashLayout::kHeadMajor ? head_major(tokens, heads, dim)
                                                 : token_major(tokens, heads, dim);
    if (layout == FlashLayout::kPadded) {
      strides_ = {tokens * (heads * (dim + 3) + 5) + 1, heads * (dim + 3) + 5, dim + 3};
    }
    const int64_t size = batch * std::max(strides_.batch, strides_.token) + 8;
    bytes_.resize(static_cast<size_t>(size) * width() / 8 + 1);
    std::memset(bytes_.data(), 0xff, bytes_.size() * 8);
  }
  FlashTensor(DType dtype, FlashLayout layout, int64_t batch, int64_t tokens, int64_t heads,
              int64_t dim, const std::vector<float>& values)
      : FlashTensor(dtype, layout, batch, tokens, heads, dim) {
    for_each([&](int64_t from, int64_t to) { set(to, values[static_cast<size_t>(from)]); });
  }

  ConstHeads view() const { return {bytes_.data(), strides_}; }
  MutableHeads view() { return {bytes_.data(), strides_}; }
  std::vector<double> values() const {
    std::vector<double> all(static_cast<size_t>(batch_ * tokens_ * heads_ * dim_));
    for_each([&](int64_t to, int64_t from) { all[static_cast<size_t>(to)] = get(from); });
    return all;
  }

 private:
  size_t width() const { return dtype_ == DType::kF64 ? 8 : dtype_ == DType::kF32 ? 4 : 2; }
  template <typename Body>
  void for_each(Body&& body) const {
    int64_t dense = 0;
    for (int64_t b = 0; b < batch_; ++b) {
      for (int64_t t = 0; t < tokens_; ++t) {
        for (int64_t h = 0; h < heads_; ++h) {
          for (int64_t i = 0; i < dim_; ++i, ++dense) {
            body(dense, b * strides_.batch + t * strides_.token + h * strides_.head + i);
          }
        }
      }
    }
  }
  void set(int64_t at, float x) {
    auto* to = reinterpret_cast<char*>(bytes_.data()) + static_cast<size_t>(at) * width();
    const double wide = x;
    const uint16_t half = dtype_ == DType::kBF16 ? float_to_bf16(x) : float_to_f16(x);
    std::memcpy(to,
                dtype_ == DType::kF64   ? static_cast<const void*>(&wide)
                : dtype_ == DType::kF32 ? static_cast<const void*>(&x)
                                        : static_cast<const void*>(&half),
                width());
  }
  double get(int64_t at) const {
    const auto* from =
        reinterpret_cast<const char*>(bytes_.data()) + static_cast<size_t>(at) * width();
    double wide = 0;
    float single = 0;
    uint16_t half = 0;
    switch (dtype_) {
      case DType::kF64:
        std::memcpy(&wide, from, 8);
        return wide;
      case DType::kF32:
        std::memcpy(&single, from, 4);
        return double{single};
      default:
        std::memcpy(&half, from, 2);
        return double{dtype_ == DType::kBF16 ? bf16_to_float(half) : f16_to_float(half)};
    }
  }

  DType dtype_;
  int64_t batch_, tokens_, heads_, dim_;
  HeadStrides strides_;
  std::vector<double> bytes_;
};

// Ours: forward, and backward where `gradients`.
inline FlashAnswer run_flash(const FlashProblem& p, ThreadPool& pool, bool gradients,
                             FlashLayout layout = FlashLayout::kTokenMajor,
                             AttentionScratch* scratch = nullptr) {
  const FlashAttention& c = p.config;
  const bool packed = c.cu_q != nullptr;
  const int64_t batch = packed ? 1 : c.batch;
  const auto queries = [&](auto&&... values) {
    return FlashTensor(c.dtype, layout, batch, c.q_len, c.q_heads, c.head_dim, values...);
  };
  const auto keys = [&](auto&&... values) {
    return FlashTensor(c.dtype, layout, batch, c.k_len, c.kv_heads, c.head_dim, values...);
  };
  const FlashTensor q = queries(p.q), k = keys(p.k), v = keys(p.v), dout = queries(p.dout);
  FlashTensor o = queries(), dq = queries(), dk = keys(), dv = keys();
  const bool wide = c.dtype == DType::kF64;
  std::vector<float> lse(static_cast<size_t>(p.lse_size()), std::nanf(""));
  std::vector<double> wide_lse(lse.size(), std::nan(""));
  void* lse_data = wide ? static_cast<void*>(wide_lse.data()) : lse.data();
  AttentionScratch own;
  if (scratch == nullptr) scratch = &own;
  flash_forward(c, q.view(), k.view(), v.view(), o.view(), lse_data, *scratch, pool);
  FlashAnswer answer;
  answer.o = o.values();
  answer.lse = wide ? wide_lse : std::vector<double>(lse.begin(), lse.end());
  if (!gradients) return answer;
  const FlashTensor& result = o;
  flash_backward(c, dout.view(), q.view(), k.view(), v.view(), result.view(), lse_data,
                 {dq.view(), dk.view(), dv.view()}, *scratch, pool);
  answer.dq = dq.values();
  answer.dk = dk.values();
  answer.dv = dv.values();
  return answer;
}

// The largest difference; infinite where one is NaN or only one is infinite.
inline double largest_error(const std::vector<double>& got, const std::vector<double>& want) {
  double worst = got.size() == want.size() ? 0 : std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
    if (got[i] == want[i]) continue;
    const double error = std::abs(got[i] - want[i]);
    worst = std::max(worst, std::isnan(error) ? std::numeric_limits<double>::infinity() : error);
  }
  return worst;
}

}  // namespace mneme::testing
