// Heads switched off, weakened or blinded while a model runs:
//
//   z[l, h] <- c z[l, h] before the output projection          c = 0 prunes (papers/34 section 3.5)
//   a[l, h] <- uniform over the rows the query sees            (papers/40 section 3.5)
//
// at every position, or from a position on. Keys and values stay: other query heads of the KV head
// read them. A memory written under edits holds other rows than the model would write: it is not to
// be saved as the model's. Tests: head_edits_test.cc.
#pragma once

#include <span>
#include <vector>

#include "mneme/core/head_table.h"
#include "mneme/models/config.h"
#include "mneme/models/head_hooks.h"

namespace mneme {

class DecoderModel;

class HeadEdits final : public HeadHooks {
 public:
  explicit HeadEdits(const ModelConfig& config);

  // Each throws Error for a head the model does not have, and on a factor that is not finite. The
  // later edit of a head and kind counts.
  void scale(const HeadId& head, float factor);
  void prune(std::span<const HeadId> heads);
  // Queries at positions >= `from` see all they see alike.
  void make_uniform(std::span<const HeadId> heads, int64_t from = 0);
  void clear();

  void queries(const HeadStep& step) override;
  void outputs(const HeadStep& step) override;

 private:
  size_t index(const HeadId& head) const;

  int64_t layers_, heads_;
  std::vector<float> factors_;         // [layers, heads]
  std::vector<int64_t> uniform_from_;  // [layers, heads]; the largest number: never
};

// Sets a model's hooks for as long as it lives, then those that were there before.
class ScopedHeadHooks {
 public:
  ScopedHeadHooks(DecoderModel& model, HeadHooks* hooks);
  ~ScopedHeadHooks();
  ScopedHeadHooks(const ScopedHeadHooks&) = delete;
  ScopedHeadHooks& operator=(const ScopedHeadHooks&) = delete;

 private:
  DecoderModel& model_;
  HeadHooks* before_;
};

}  // namespace mneme
