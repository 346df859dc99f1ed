// Sums of softmax weights per stored row, from the weights that attend_split leaves behind: what
// each row received from the queries of a tile and the query heads of its KV head.
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

// sums [rows of the split's pages] += the weights of every query in units of its softmax. part_max
// [queries * ratio] are the split's maxima, `total` the tile's merged result; factors [queries *
// ratio] is scratch.
void add_weight_sums(const SplitWeights& split, const float* part_max, const Partial& total,
                     float* factors, double* sums);

}  // namespace mneme
