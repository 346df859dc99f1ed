// Cases, data and the float64 answer of attention, forward and backward, for the tests of the CUDA
// kernels: on the CPU by emulation, and on a device.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "mneme/core/half.h"
#include "mneme/core/rng.h"
#include "mneme/kernels/cuda/flash_launch.cuh"
#include "mneme/kernels/flash_dropout.h"
#include "mneme/kernels/flash_shape_testing.h"

namespace mneme::testing {

struct AttentionCase {
  std::string name;
  FlashAttention config;
  bool head_major = false;
  std::vector<int32_t> cu_q, cu_k;  // packed sequences
  bool alibi = false;
};

inline std::vector<AttentionCase> attention_cases() {
  std::vector<AttentionCase> cases;
  cases.push_back({"full", flash_shape(2, 70, 70, 2, 2, 64)});
  cases.push_back({"one_of_one", flash_shape(1, 1, 1, 1, 1, 1)});
  cases.push_back({"causal_grouped", flash_shape(1, 37, 100, 6, 2, 64)});
  cases.back().config.causal = true;
  cases.push_back({"causal_rows_that_see_nothing", flash_shape(1, 40, 17, 2, 1, 24)});
  cases.back().config.causal = true;
  cases.push_back({"window_and_cap_odd_head", flash_shape(1, 63, 90, 2, 1, 33)});
  cases.back().config.window_left = 20;
  cases.back().config.window_right = 7;
  cases.back().config.softcap = 2;
  cases.push_back({"right_window_only", flash_shape(1, 50, 30, 1, 1, 16)});
  cases.back().config.window_right = 3;
  cases.push_back({"alibi_head_major", flash_shape(2, 20, 35, 3, 1, 80)});
  cases.back().config.causal = true;
  cases.back().alibi = cases.back().head_major = true;
  cases.push_back({"dropout", flash_shape(1, 33, 66, 2, 2, 40)});
  cases.back().config.dropout = 0.3;
  cases.back().config.dropout_seed = 0x123456789abcdefu;
  cases.back().config.dropout_offset = 7;
  cases.push_back({"head_128", flash_shape(1, 40, 70, 2, 1, 128)});
  cases.back().config.causal = true;
  cases.push_back({"head_256", flash_shape(1, 33, 50, 1, 1, 256)});
  cases.push_back({"packed", flash_shape(4, 60, 75, 4, 2, 32)});
  cases.back().config.causal = true;
  cases.back().cu_q = {0, 17, 17, 20, 60};
  cases.back().cu_k = {0, 30, 35, 35, 75};
  return cases;
}

template <class T>
double worst_error(const std::vector<T>& got, const std::vector<double>& want, double (*value)(T)) {
  double worst = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double error = std::abs(value(got[i]) - want[i]);
    if (!(error <= worst)) worst = error;
  }
  return worst;
}

// Tensors of one case in type T, with the answer in float64 from their rounded values.
template <class T>
class AttentionData {
 public:
  using Element = typename T::Storage;

  explicit AttentionData(const AttentionCase& c) : case_(c), config_(c.config) {
    if (!c.cu_q.empty()) {
      config_.cu_q = case_.cu_q.data();
      config_.cu_k = case_.cu_k.data();
    }
    const int64_t copies = c.cu_q.empty() ? config_.batch : 1;
    const int64_t queries = copies * config_.q_len * config_.q_heads,
                  keys = copies * config_.k_len * config_.kv_heads;
    Rng rng(11);
    for (auto* x : {&q, &dout}) fill(*x, queries * config_.head_dim, rng);
    for (auto* x : {&k, &v}) fill(*x, keys * config_.head_dim, rng);
    const Element nan = from(std::numeric_limits<float>::quiet_NaN());
    for (auto* x : {&o, &dq}) x->assign(q.size(), nan);
    for (auto* x : {&dk, &dv}) x->assign(k.size(), nan);
    lse.assign(static_cast<size_t>(queries), std::numeric_limits<float>::quiet_NaN());
    delta = lse;
    if (c.alibi) {
      for (int64_t h = 0; h < config_.q_heads; ++h)
        slopes.push_back(0.2f / static_cast<float>(h + 1));
      config_.alibi_slopes = slopes.data();
    }
    solve();
  }

  const FlashAttention& config() const { return config_; }

  cuda::FlashTensors tensors() {
    cuda::FlashTensors t;
    const HeadStrides rows = strides(config_.q_len, config_.q_heads),
                      keys = strides(config_.k_len, config_.kv_heads);
    t.q = {q.data(), rows};
    t.k = {k.data(), keys};
    t.v = {v.data(), keys};
    t.o = {o.data(), rows};
    t.dout = {dout.data(), rows};
    t.gradients = {{dq.data(), rows}, {dk.data(), keys}, {dv.data(), keys}};
    t.lse = lse.data();
    t.delta = delta.data();
    return t;
  }

  void expect_forward(const std::string& name) const {
    expect(o, want_o_, name + " o", 2);
    double worst = 0;
    for (size_t i = 0; i < lse.size(); ++i) {
      if (std::isinf(want_lse_[i])) {
        EXPECT_EQ(lse[i], want_lse_[i]) << name << " lse " << i;
      } else {
        const double error = std::abs(lse[i] - want_lse_[i]);
        if (!(error <= worst)) worst = error;
      }
    }
    EXPECT_LE(worst, 1e-5) << name << " lse";
  }
  void expect_backward(const std::string& name) const {
    expect(dq, want_dq_, name + " dq", 3);
    expect(dk, want_dk_, name + " dk", 3);
    expect(dv, want_dv_, name + " dv", 3);
  }

  std::vector<Element> q, k, v, dout, o, dq, dk, dv;
  std::vector<float> lse, delta, slopes;

 private:
  static double value(Element x) { return static_cast<double>(to(x)); }
  static float to(Element x) {
    if constexpr (std::is_same_v<T, cuda::F16>)
      return f16_to_float(x);
    else if constexpr (std::is_same_v<T, cuda::BF16>)
      return bf16_to_float(x);
    else
      return x;
  }
  static Element from(float x) {
    if constexpr (std::is_same_v<T, cuda::F16>)
      return float_to_f16(x);
    else if constexpr (std::is_same_v<T, cuda::BF16>)
      return float_to_bf16(x);
    else
      return x;
  }
  // A unit in the last place at 1.
  static constexpr double kUnit = std::is_same_v<T, cuda::F16>    ? 0x1p-10
                                  : std::is_same_v<T, cuda::BF16> ? 0x1p-7
                                                                  : 0x1p-23;

  static void fill(std::vector<Element>& x, int64_t n, Rng& rng) {
    for (int64_t i = 0; i < n; ++i) x.push_back(from(static_cast<float>(rng.normal())));
  }
  HeadStrides strides(int64_t tokens, int64_t heads) const {
    return case_.head_major ? head_major(tokens, heads, config_.head_dim)
                            : token_major(tokens, heads, config_.head_dim);
  }

  // The result is rounded once to T; weights and their gradients are rounded to T as operands, each
  // of relative half a unit, which adds up to at most half a unit of the largest value's size: with
  // the float32 sums that is `units` units of the largest result.
  void expect(const std::vector<Element>& got, const std::vector<double>& want,
              const std::string& name, double units) const {
    double largest = 1;
    for (const double x : want) largest = std::max(largest, std::abs(x));
    const double limit = (std::is_same_v<T, cuda::F32> ? 16 : units) * kUnit * largest;
    EXPECT_LE(worst_error<Element>(got, want, value), limit) << name;
  }

  void solve() {
    want_o_.assign(q.size(), 0);
    want_dq_.assign(q.size(), 0);
    want_dk_.assign(k.size(), 0);
    want_dv_.assign(v.size(), 0);
    want_lse_.assign(lse.size(), 0);
    for (int64_t b = 0; b < config_.batch; ++b) {
      for (int64_t h = 0; h < config_.q_heads; ++h) solve_head(b, h);
    }
  }

  void solve_head(int64_t b, int64_t h) {
    const FlashAttention& c = config_;
    const bool packed = c.cu_q != nullptr;
    const int64_t q_begin = packed ? c.cu_q[b] : 0, k_begin = packed ? c.cu_k[b] : 0;
    const int64_t q_len = packed ? c.cu_q[b + 1] - q_begin : c.q_len;
    const int64_t k_len = packed ? c.cu_k[b + 1] - k_begin : c.k_len;
    const HeadStrides rows = strides(c.q_len, c.q_heads), keys = strides(c.k_len, c.kv_heads);
    const int64_t kv_head = h / (c.q_heads / c.kv_heads), off = k_len - q_len, dim = c.head_dim;
    const int64_t right = c.causal ? 0 : c.window_right;
    const auto row_at = [&](int64_t i) {
      return static_cast<size_t>((packed ? 0 : b * rows.batch) + (q_begin + i) * rows.token +
                                 h * rows.head);
    };
    const auto key_at = [&](int64_t j) {
      return static_cast<size_t>((packed ? 0 : b * keys.batch) + (k_begin + j) * keys.token +
                                 kv_head * keys.head);
    };
    const auto dot = [&](const std::vector<Element>& x, size_t at, const std::vector<Element>& y,
                         size_t with) {
      double sum = 0;
      for (int64_t d = 0; d < dim; ++d)
        sum += value(x[at + static_cast<size_t>(d)]) * value(y[with + static_cast<size_t>(d)]);
      return sum;
    };
    std::vector<double> s(static_cast<size_t>(k_len)), slope(s.size()), kept(s.size());
    for (int64_t i = 0; i < q_len; ++i) {
      const size_t at = row_at(i);
      double top = -std::numeric_limits<double>::infinity(), sum = 0;
      for (int64_t j = 0; j < k_len; ++j) {
        const auto n = static_cast<size_t>(j);
        s[n] = -std::numeric_limits<double>::infinity();
        if (right >= 0 && j > i + off + right) continue;
        if (c.window_left >= 0 && j < i + off - c.window_left) continue;
        s[n] = c.scale * dot(q, at, k, key_at(j));
        slope[n] = 1;
        if (c.softcap > 0) {
          const double bent = std::tanh(s[n] / c.softcap);
          s[n] = c.softcap * bent;
          slope[n] = 1 - bent * bent;
        }
        if (c.alibi_slopes != nullptr)
          s[n] -=
              static_cast<double>(c.alibi_slopes[h]) * std::abs(static_cast<double>(i + off - j));
        kept[n] =
            c.dropout == 0 ? 1
            : dropout_keeps(c.dropout_seed, c.dropout_offset, b * c.q_heads + h, i, j, c.dropout)
                ? 1 / (1 - c.dropout)
                : 0;
        top = std::max(top, s[n]);
      }
      for (const double x : s) sum += std::isinf(x) ? 0 : std::exp(x - top);
      const int64_t lse_row =
          packed ? h * c.q_len + q_begin + i : (b * c.q_heads + h) * c.q_len + i;
      want_lse_[static_cast<size_t>(lse_row)] =
          sum > 0 ? top + std::log(sum) : std::numeric_limits<double>::infinity();
      if (sum == 0) continue;
      double delta_row = 0;
      for (int64_t j = 0; j < k_len; ++j) {
        const auto n = static_cast<size_t>(j);
        if (std::isinf(s[n])) continue;
        const double weight = std::exp(s[n] - top) / sum * kept[n];
        delta_row += weight * dot(dout, at, v, key_at(j));
        for (size_t d = 0; d < static_cast<size_t>(dim); ++d) {
          want_o_[at + d] += weight * value(v[key_at(j) + d]);
          want_dv_[key_at(j) + d] += weight * value(dout[at + d]);
        }
      }
      for (int64_t j = 0; j < k_len; ++j) {
        const auto n = static_cast<size_t>(j);
        if (std::isinf(s[n])) continue;
        const double weight = std::exp(s[n] - top) / sum;
        const double gradient =
            weight * (dot(dout, at, v, key_at(j)) * kept[n] - delta_row) * slope[n] * c.scale;
        for (size_t d = 0; d < static_cast<size_t>(dim); ++d) {
          want_dq_[at + d] += gradient * value(k[key_at(j) + d]);
          want_dk_[key_at(j) + d] += gradient * value(q[at + d]);
        }
      }
    }
  }

  AttentionCase case_;
  FlashAttention config_;
  std::vector<double> want_o_, want_dq_, want_dk_, want_dv_, want_lse_;
};

}  // namespace mneme::testing
