// DELTA (2025, arXiv 2510.09883): the cache keeps everything; while decoding, most layers read a few
// pages only, which a few selection layers before them pick anew for every token.
//
//   full layers F; layer i is full if i, i+1 in F (or i is the last), selects if i in F and i+1 not,
//   and is sparse otherwise
//   s[j] = max over all query heads of a_h[j]        weights of the selecting layer's dense answer
//   p[P] = sum of s over page P, less 1e-7 P; the `recent` newest pages: +infinity
//   the `pages` largest, in text order, are what the sparse layers after it read, all KV heads alike
//
// As soon as a text has more than `pages` pages. Layers with a window of the model's own keep it and
// take no part. Tests: delta_test.cc, runtime/policy_golden_test.cc.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "mneme/cache/policy/block_reading.h"

namespace mneme {

enum class DeltaRole : int64_t { kFull = 0, kSelect = 1, kSparse = 2 };

// Throws Error on layers out of order or range, or without layer 0.
std::vector<DeltaRole> delta_roles(std::span<const int64_t> full_layers, int64_t layers);
// For a model whose authors named none: the first tenth (at least two), and one layer each at half
// and at 0.8 of the depth.
std::vector<int64_t> delta_default_layers(int64_t layers);

// Scores of the pages of `page` rows -> scores [ceil(rows / page)]. seen: the newest query's weights.
void delta_page_scores(const SeenWeights& seen, int64_t q_heads, int64_t rows, int64_t page,
                       std::vector<float>& scores);
// The pages to read, in increasing order -> chosen; all where there are no more than `pages`. scores
// are overwritten; NaN counts as -infinity.
void delta_select(std::span<float> scores, int64_t pages, int64_t recent, float position_bias,
                  std::vector<int32_t>& chosen);

struct DeltaOptions {
  std::vector<int64_t> full_layers;  // empty: delta_default_layers
  int64_t page = 64;                 // rows
  int64_t pages = 16;                // read by a sparse layer, the recent ones included
  int64_t recent = 2;
};

class Delta final : public BlockReading {
 public:
  Delta(const MemoryShape& shape, const DeltaOptions& options);

  std::unique_ptr<CachePolicy> clone() const override { return std::make_unique<Delta>(*this); }
  DeltaRole role(int64_t layer) const { return roles_[static_cast<size_t>(layer)]; }

 private:
  bool chooses(int64_t layer) const override { return role(layer) == DeltaRole::kSelect; }
  int64_t source(int64_t layer) const override { return sources_[static_cast<size_t>(layer)]; }
  void choose(const SeenWeights& seen, int64_t rows, std::vector<int32_t>& chosen) override;

  DeltaOptions options_;
  std::vector<DeltaRole> roles_;  // [layers]
  std::vector<int64_t> sources_;  // [layers] of a sparse layer the last one that selects, else -1
  std::vector<float> scores_;
};

}  // namespace mneme
