// HyLRA (2026, arXiv 2602.00777): while decoding, a few layers attend in full and publish the blocks
// they look at most; the others read the blocks of the layer their plan names, with their own keys
// and values. The cache keeps everything.
//
//   p[n] = mean over all query heads of a full layer's weights; summed over blocks
//   published: the `blocks` best, among them the first `sink` and the newest `recent` ones
//
// The plan comes from a profile of the model (hylra_search.h, `mneme profile hylra`). Without one, the
// first two layers and every third after them attend in full: a guess that works on most models.
// Layers with a window of the model's own keep it and take no part. Tests: hylra_test.cc,
// runtime/policy_golden_test.cc.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "mneme/cache/policy/block_reading.h"

namespace mneme {

struct HylraOptions {
  std::vector<int64_t> plan;  // of every layer, -1 or its source; empty: the guess
  int64_t block = 64;         // rows
  int64_t blocks = 16;
  int64_t sink = 1, recent = 2;
};

// The plan a profile file holds. Throws Error where it cannot be read or was made for another model.
std::vector<int64_t> read_hylra_plan(const std::string& path, const std::string& model_fingerprint);
// Writes it, atomically.
void write_hylra_plan(const std::string& path, std::span<const int64_t> plan,
                      const std::string& model_fingerprint);
std::vector<int64_t> hylra_guess(std::span<const int64_t> windows);

class Hylra final : public BlockReading {
 public:
  Hylra(const MemoryShape& shape, const HylraOptions& options);

  std::unique_ptr<CachePolicy> clone() const override { return std::make_unique<Hylra>(*this); }
  std::span<const int64_t> plan() const { return options_.plan; }

 private:
  bool chooses(int64_t layer) const override { return is_source_[static_cast<size_t>(layer)]; }
  int64_t source(int64_t layer) const override { return options_.plan[static_cast<size_t>(layer)]; }
  void choose(const SeenWeights& seen, int64_t rows, std::vector<int32_t>& chosen) override;

  HylraOptions options_;
  std::vector<bool> is_source_;  // [layers]
  std::vector<float> scores_;
};

}  // namespace mneme
