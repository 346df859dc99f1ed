// The host side of the flash kernels, for whatever launches them: checks of a call, its parameters,
// and which kernels run on which grids. A Launcher is called as launch(kernel, grid, threads,
// shared_bytes, params); there is one for a CUDA stream and one for the emulator.
#pragma once

#include <algorithm>
#include <cmath>

#include "mneme/core/error.h"
#include "mneme/kernels/cuda/flash_backward.cuh"
#include "mneme/kernels/cuda/flash_forward.cuh"
#include "mneme/kernels/cuda/launch_grid.h"
#include "mneme/kernels/flash_attention.h"

namespace mneme::cuda {

inline constexpr int64_t kMaxCudaHeadDim = 256;

struct FlashTensors {
  ConstHeads q, k, v;
  MutableHeads o;
  float* lse = nullptr;
  // Backward:
  ConstHeads dout;
  FlashGradients gradients;
  float* delta = nullptr;
};

inline DeviceHeads device_heads(const void* data, const HeadStrides& strides) {
  return {static_cast<char*>(const_cast<void*>(data)), strides.batch, strides.token, strides.head};
}

// Whether rows can be copied in 16-byte pieces.
inline bool is_wide(const FlashAttention& config, const DeviceHeads& heads, int64_t element) {
  const auto whole = [&](int64_t elements) { return elements * element % 16 == 0; };
  return heads.data == nullptr ||
         (reinterpret_cast<uintptr_t>(heads.data) % 16 == 0 && whole(config.head_dim) &&
          whole(heads.token) && whole(heads.head) && whole(heads.batch));
}

// Throws Error naming what does not fit.
inline FlashParams flash_params(const FlashAttention& config, const FlashTensors& t) {
  const bool known =
      config.dtype == DType::kF32 || config.dtype == DType::kF16 || config.dtype == DType::kBF16;
  MNEME_CHECK(known, "cuda flash attention: expected f32, f16 or bf16, got ",
              dtype_name(config.dtype));
  MNEME_CHECK(config.head_dim >= 1 && config.head_dim <= kMaxCudaHeadDim,
              "cuda flash attention: expected a head dimension of 1 to ", kMaxCudaHeadDim, ", got ",
              config.head_dim);
  MNEME_CHECK(
      config.kv_heads > 0 && config.q_heads > 0 && config.q_heads % config.kv_heads == 0,
      "cuda flash attention: expected query heads that are a multiple of the KV heads, got ",
      config.q_heads, " and ", config.kv_heads);
  MNEME_CHECK(config.kv_heads <= 65535 && config.batch >= 0 && config.batch <= 65535,
              "cuda flash attention: expected at most 65535 KV heads and sequences, got ",
              config.kv_heads, " and ", config.batch);
  const int64_t ratio = config.q_heads / config.kv_heads;
  MNEME_CHECK(config.q_len >= 0 && config.k_len >= 0 && config.q_len * ratio < (int64_t{1} << 30) &&
                  config.k_len < (int64_t{1} << 30),
              "cuda flash attention: lengths out of range, got ", config.q_len, " queries and ",
              config.k_len, " keys");
  MNEME_CHECK(config.window_left >= -1 && config.window_right >= -1,
              "cuda flash attention: a window is -1 or at least 0, got ", config.window_left,
              " and ", config.window_right);
  MNEME_CHECK(std::isfinite(config.scale) && config.softcap >= 0 && std::isfinite(config.softcap),
              "cuda flash attention: expected a finite scale and a softcap of at least 0, got ",
              config.scale, " and ", config.softcap);
  MNEME_CHECK(config.dropout >= 0 && config.dropout < 1,
              "cuda flash attention: expected a dropout of 0 to below 1, got ", config.dropout);
  MNEME_CHECK((config.cu_q == nullptr) == (config.cu_k == nullptr),
              "cuda flash attention: cu_q and cu_k come together");
  FlashParams p{};
  p.q = device_heads(t.q.data, t.q.strides);
  p.k = device_heads(t.k.data, t.k.strides);
  p.v = device_heads(t.v.data, t.v.strides);
  p.o = device_heads(t.o.data, t.o.strides);
  p.dout = device_heads(t.dout.data, t.dout.strides);
  p.dq = device_heads(t.gradients.dq.data, t.gradients.dq.strides);
  p.dk = device_heads(t.gradients.dk.data, t.gradients.dk.strides);
  p.dv = device_heads(t.gradients.dv.data, t.gradients.dv.strides);
  p.lse = t.lse;
  p.delta = t.delta;
  p.slopes = config.alibi_slopes;
  p.slope_batch = config.alibi_per_batch ? config.q_heads : 0;
  p.cu_q = config.cu_q;
  p.cu_k = config.cu_k;
  p.lse_head = config.q_len;
  p.lse_batch = config.q_heads * config.q_len;
  p.q_heads = static_cast<int32_t>(config.q_heads);
  p.ratio = static_cast<int32_t>(ratio);
  p.head_dim = static_cast<int32_t>(config.head_dim);
  p.q_len = static_cast<int32_t>(config.q_len);
  p.k_len = static_cast<int32_t>(config.k_len);
  const auto limit = [](int64_t window) {
    return static_cast<int32_t>(std::min<int64_t>(window, 1 << 30));
  };
  p.left = limit(config.window_left);
  p.right = config.causal ? 0 : limit(config.window_right);
  p.scale = static_cast<float>(config.scale);
  const bool capped = config.softcap > 0;
  p.factor = static_cast<float>(capped ? config.scale / config.softcap
                                       : config.scale * static_cast<double>(kLog2E));
  p.cap = static_cast<float>(config.softcap * static_cast<double>(kLog2E));
  p.keep_scale = static_cast<float>(1 / (1 - config.dropout));
  p.keep_from = static_cast<uint32_t>(config.dropout * 0x1p32);
  p.seed_low = static_cast<uint32_t>(config.dropout_seed);
  p.seed_high = static_cast<uint32_t>(config.dropout_seed >> 32);
  p.dropout_offset = config.dropout_offset;
  const int64_t element = config.dtype == DType::kF32 ? 4 : 2;
  p.wide = is_wide(config, p.q, element) && is_wide(config, p.k, element) &&
           is_wide(config, p.v, element) && is_wide(config, p.dout, element);
  return p;
}

inline LaunchGrid tiles_of(const FlashAttention& config, int64_t rows, int64_t tile) {
  return {(rows + tile - 1) / tile, config.kv_heads, config.batch};
}

inline int64_t packed_rows(const FlashAttention& config) {
  return config.q_len * (config.q_heads / config.kv_heads);
}

template <class T, int kDim, class Launcher>
void launch_forward(const FlashAttention& config, const FlashParams& p, const Launcher& launch) {
  using Shape = FlashShape<T, kDim>;
  launch(flash_forward_kernel<T, kDim>, tiles_of(config, packed_rows(config), Shape::kRows),
         Shape::kThreads, flash_forward_shared_bytes<T, kDim>(), p);
}

template <class T, int kDim, class Launcher>
void launch_backward(const FlashAttention& config, const FlashParams& p, const Launcher& launch) {
  using Shape = FlashShape<T, kDim>;
  const int64_t rows = packed_rows(config), shared = flash_backward_shared_bytes<T, kDim>();
  launch(flash_delta_kernel<T>, tiles_of(config, rows, kDeltaRows), kDeltaThreads, int64_t{0}, p);
  launch(flash_dkv_kernel<T, kDim>, tiles_of(config, config.k_len, Shape::kRows), Shape::kThreads,
         shared, p);
  launch(flash_dq_kernel<T, kDim>, tiles_of(config, rows, Shape::kRows), Shape::kThreads, shared,
         p);
}

// Grids with nothing in them are not launched: the launcher's business.
template <class T, class Launcher>
void run_forward(const FlashAttention& config, const FlashParams& p, const Launcher& launch) {
  if (config.head_dim <= 64) return launch_forward<T, 64>(config, p, launch);
  if (config.head_dim <= 128) return launch_forward<T, 128>(config, p, launch);
  launch_forward<T, 256>(config, p, launch);
}

template <class T, class Launcher>
void run_backward(const FlashAttention& config, const FlashParams& p, const Launcher& launch) {
  if (config.head_dim <= 64) return launch_backward<T, 64>(config, p, launch);
  if (config.head_dim <= 128) return launch_backward<T, 128>(config, p, launch);
  launch_backward<T, 256>(config, p, launch);
}

}  // namespace mneme::cuda
