// Softmax weights of stored rows, from what attend_split leaves behind: the weights themselves, and
// their sums over the queries of a tile and the query heads of a KV head.
//
// The weights of one query are added over its heads in order and rounded to a multiple of
// kWeightUnit; sums of those in double are exact below 2^17, so no order of queries, tiles, threads
// or calls changes a bit of them. Tests: attention_sums_test.cc.
#pragma once

#include <cstdint>
#include <span>

#include "mneme/kernels/attention_tile.h"

namespace mneme {

inline constexpr double kWeightUnit = 0x1p-36;

// Weights of a tile over one split, relative to the split's maxima.
struct SplitWeights {
  std::span<const PageView> pages;
  const float* weights = nullptr;  // [queries * ratio, stride], 64 for each page
  int64_t stride = 0;
  int64_t queries = 0, ratio = 1;
};

// factors [queries * ratio]: what turns a split's weights into those of the whole softmax. part_max
// [queries * ratio] are the split's maxima, `total` the tile's merged result.
void weight_factors(const SplitWeights& split, const float* part_max, const Partial& total,
                    float* factors);

// sums [rows of the split's pages] += the weights of every query in units of its softmax.
void add_weight_sums(const SplitWeights& split, const float* factors, double* sums);

// The weights of query t, head r of the KV head -> to + t * query_stride + r * head_stride, [rows of
// the split's pages].
void copy_weights(const SplitWeights& split, const float* factors, float* to, int64_t query_stride,
                  int64_t head_stride);

}  // namespace mneme
