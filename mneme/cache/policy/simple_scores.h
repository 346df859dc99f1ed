// The scores that need no attention: baselines every comparison should hold. Tests:
// evicting_memory_test.cc.
#pragma once

#include "mneme/cache/policy/prompt_eviction.h"
#include "mneme/core/rng.h"

namespace mneme {

// Knorm (Devoto et al. 2024, arXiv 2406.11430): keys of small norm draw attention, so a row is worth
// minus the length of its key.
class Knorm final : public PromptEviction {
 public:
  using PromptEviction::PromptEviction;
  std::unique_ptr<CachePolicy> clone() const override { return std::make_unique<Knorm>(*this); }

 private:
  void score(const Candidates& candidates, std::span<float> scores) override;
};

// Rows drawn at random, the same for the same seed: what any other score has to beat.
class RandomRows final : public PromptEviction {
 public:
  RandomRows(const MemoryShape& shape, const EvictionOptions& options, int64_t seed)
      : PromptEviction(shape, options), seed_(seed) {}
  std::unique_ptr<CachePolicy> clone() const override {
    return std::make_unique<RandomRows>(*this);
  }

 private:
  void score(const Candidates& candidates, std::span<float> scores) override;
  int64_t seed_;
};

// StreamingLLM (Xiao et al. 2023, arXiv 2309.17453) under a budget: the first rows and the newest.
class NewestRows final : public PromptEviction {
 public:
  using PromptEviction::PromptEviction;
  std::unique_ptr<CachePolicy> clone() const override {
    return std::make_unique<NewestRows>(*this);
  }

 private:
  bool cuts_while_decoding() const override { return true; }
  void score(const Candidates&, std::span<float> scores) override {
    for (size_t row = 0; row < scores.size(); ++row) scores[row] = static_cast<float>(row);
  }
};

}  // namespace mneme
