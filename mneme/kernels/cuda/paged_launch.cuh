// The host side of the paged kernels, for whatever launches them (flash_launch.cuh says how).
#pragma once

#include <algorithm>
#include <cmath>

#include "mneme/core/error.h"
#include "mneme/kernels/cuda/launch_grid.h"
#include "mneme/kernels/cuda/paged_attention.cuh"
#include "mneme/kernels/cuda/paged_attention.h"

namespace mneme::cuda {

inline constexpr int64_t kMaxPagedDim = 256;

// Query rows of a block.
inline int64_t paged_rows(const PagedAttention& config, int64_t queries) {
  const int64_t rows = queries * (config.q_heads / config.kv_heads);
  return rows >= 8 ? 8 : rows >= 3 ? 4 : rows;
}

inline int64_t paged_tiles(const PagedAttention& config, int64_t queries) {
  const int64_t rows = queries * (config.q_heads / config.kv_heads),
                tile = paged_rows(config, queries);
  return tile == 0 ? 0 : (rows + tile - 1) / tile;
}

inline int64_t paged_splits(int64_t longest) { return (longest + kSplitPages - 1) / kSplitPages; }

inline int64_t paged_workspace_bytes(const PagedAttention& config, int64_t queries,
                                     int64_t longest) {
  return paged_tiles(config, queries) * config.kv_heads * paged_splits(longest) *
         paged_rows(config, queries) * (config.format.v_dim + 2) * 4;
}

inline void check_paged(const PagedAttention& config, int64_t queries, int64_t first_position,
                        int64_t longest) {
  config.format.validate();
  MNEME_CHECK(config.format.k_dim <= kMaxPagedDim && config.format.v_dim <= kMaxPagedDim,
              "cuda paged attention: expected head dimensions of at most ", kMaxPagedDim, ", got ",
              config.format.k_dim, " and ", config.format.v_dim);
  MNEME_CHECK(
      config.kv_heads > 0 && config.q_heads > 0 && config.q_heads % config.kv_heads == 0,
      "cuda paged attention: expected query heads that are a multiple of the KV heads, got ",
      config.q_heads, " and ", config.kv_heads);
  MNEME_CHECK(std::isfinite(config.scale) && config.softcap >= 0 && std::isfinite(config.softcap) &&
                  config.window.window >= 0 && config.window.sink >= 0,
              "cuda paged attention: expected a finite scale and softcap, window and sink of at "
              "least 0, got ",
              config.scale, ", ", config.softcap, ", ", config.window.window, " and ",
              config.window.sink);
  MNEME_CHECK(config.head_windows.empty() && config.window.block == 1,
              "cuda paged attention: one window for all KV heads, in blocks of 1; got ",
              config.head_windows.size(), " windows of their own and blocks of ",
              config.window.block);
  MNEME_CHECK(
      queries >= 0 && first_position >= 0 && longest >= 0,
      "cuda paged attention: expected queries, first position and pages of at least 0, got ",
      queries, ", ", first_position, " and ", longest);
  MNEME_CHECK(config.kv_heads <= 65535 && paged_tiles(config, queries) <= 65535,
              "cuda paged attention: too many KV heads or queries for a grid, got ",
              config.kv_heads, " and ", queries);
}

template <class Launcher>
void run_paged(const PagedAttention& config, int64_t queries, int64_t first_position,
               const float* q, const DevicePages& pages, float* out, void* workspace,
               const Launcher& launch) {
  check_paged(config, queries, first_position, pages.longest);
  const PageLayout layout = page_layout(config.format);
  const bool capped = config.softcap > 0;
  PagedParams p{};
  p.pages = pages.pages;
  p.begin = pages.begin;
  p.q = q;
  p.out = out;
  p.partials = static_cast<float*>(workspace);
  p.k_scales = layout.k_scales;
  p.k_biases = layout.k_biases;
  p.v = layout.v;
  p.v_scales = layout.v_scales;
  p.v_biases = layout.v_biases;
  p.first_position = first_position;
  p.window = config.window.window;
  p.sink = config.window.sink;
  p.queries = static_cast<int32_t>(queries);
  p.q_heads = static_cast<int32_t>(config.q_heads);
  p.ratio = static_cast<int32_t>(config.q_heads / config.kv_heads);
  p.k_dim = static_cast<int32_t>(config.format.k_dim);
  p.v_dim = static_cast<int32_t>(config.format.v_dim);
  p.group = static_cast<int32_t>(config.format.group);
  p.splits = static_cast<int32_t>(paged_splits(pages.longest));
  p.factor = capped ? config.scale / config.softcap : config.scale * kLog2E;
  p.cap = config.softcap * kLog2E;
  p.f32_scales = config.format.f32_scales;
  const int64_t tiles = paged_tiles(config, queries);
  const auto run_rows = [&](auto rows_constant, auto split_kernel) {
    constexpr int kRows = decltype(rows_constant)::value;
    launch(split_kernel, LaunchGrid{p.splits, config.kv_heads, tiles}, kPageThreads,
           paged_shared_bytes<kRows>(config.format.k_dim), p);
    launch(paged_merge_kernel<kRows>, LaunchGrid{tiles, config.kv_heads, 1}, kPageThreads,
           int64_t{0}, p);
  };
  const auto run_encoding = [&](auto encoding_constant) {
    constexpr RowEncoding kEncoding = decltype(encoding_constant)::value;
    switch (paged_rows(config, queries)) {
      case 0:
        return;
      case 1:
        return run_rows(std::integral_constant<int, 1>(), paged_split_kernel<kEncoding, 1>);
      case 2:
        return run_rows(std::integral_constant<int, 2>(), paged_split_kernel<kEncoding, 2>);
      case 4:
        return run_rows(std::integral_constant<int, 4>(), paged_split_kernel<kEncoding, 4>);
      default:
        return run_rows(std::integral_constant<int, 8>(), paged_split_kernel<kEncoding, 8>);
    }
  };
  switch (config.format.encoding) {
    case RowEncoding::kF32:
      return run_encoding(std::integral_constant<RowEncoding, RowEncoding::kF32>());
    case RowEncoding::kF16:
      return run_encoding(std::integral_constant<RowEncoding, RowEncoding::kF16>());
    case RowEncoding::kBF16:
      return run_encoding(std::integral_constant<RowEncoding, RowEncoding::kBF16>());
    case RowEncoding::kQ8:
      return run_encoding(std::integral_constant<RowEncoding, RowEncoding::kQ8>());
    case RowEncoding::kQ4:
      return run_encoding(std::integral_constant<RowEncoding, RowEncoding::kQ4>());
  }
}

}  // namespace mneme::cuda
