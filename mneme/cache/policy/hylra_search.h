// HyLRA's offline part (2026, arXiv 2602.00777): how much layers' block sets overlap, which layers
// suffer from sparse attention, and the static plan a dynamic programme makes of it.
//
// A plan has one entry a layer: -1, the layer computes in full and publishes its blocks; k < l, it
// reads the blocks that layer k published. Walking up with the current source i, layer j stays with
// it (worth overlap[i][j]) or becomes the source itself (worth 1). Tests: hylra_search_test.cc.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mneme {

struct HylraProfileOptions {
  int64_t block = 64;               // rows
  int64_t sink = 64, recent = 128;  // rows whose blocks are always chosen
  int64_t preserved = 1024;         // rows a layer would read: preserved / block blocks
  double energy = 0.9;
  double sparsity = 0.9;  // share of layers that may be sparse
};

// What one decode step tells about a layer and KV head: the weights of its newest query, summed over
// the KV head's query heads. [rows]
using HylraWeights = std::vector<double>;

class HylraProfile {
 public:
  HylraProfile(int64_t layers, int64_t kv_heads, const HylraProfileOptions& options);

  // A step: weights [layers][kv_heads][rows], the same number of rows in each.
  void add(const std::vector<std::vector<HylraWeights>>& weights);

  // Blocks a layer needs for `energy` of its weight, less one, of all blocks: [kv_heads][steps]
  // [layers], as added.
  const std::vector<std::vector<std::vector<double>>>& ratios() const { return ratios_; }
  // Their mean, after each head's values over the steps are clipped to the quartiles and 1.5 times
  // their distance. [layers]
  std::vector<double> sensitivity() const;
  // The ceil(layers * (1 - sparsity)) layers of highest sensitivity, increasing.
  std::vector<int64_t> sensitive_layers() const;
  // Of what layer j chooses, the share layer i < j chooses too, mean over steps: [layers * layers]
  // of one KV head, 1 on the diagonal, 0 below; and the least over the heads.
  std::vector<double> overlap(int64_t head) const;
  std::vector<double> least_overlap() const;

 private:
  int64_t layers_, kv_heads_, steps_ = 0;
  HylraProfileOptions options_;
  std::vector<std::vector<std::vector<double>>> ratios_;
  std::vector<std::vector<double>> overlap_;  // [kv_heads] sums over steps
};

// Fewest full layers such that every other reads a source whose overlap with it is at least theta,
// layer 0 and the sensitive ones full; of those the largest sum of the readers' overlaps.
std::vector<int64_t> hylra_plan_by_threshold(std::span<const double> overlap, int64_t layers,
                                             double theta, std::span<const int64_t> sensitive);

struct HylraBudgetPlan {
  std::vector<int64_t> plan;
  double least = 0, sum = 0;  // of the worths along the walk
};
// At most max_changes new sources after layer 0: the walk whose least worth is largest, then its
// sum, as the official tool walks it (its pair is no perfect key: the sum is nearly the best).
HylraBudgetPlan hylra_plan_by_budget(std::span<const double> overlap, int64_t layers,
                                     int64_t max_changes);

// Throws Error where a plan cannot be: layer 0 reads, a source is above its reader or reads itself.
void check_hylra_plan(std::span<const int64_t> plan, int64_t layers);

}  // namespace mneme
