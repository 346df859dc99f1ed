// Policies that keep everything and, while decoding, let most layers read a few blocks of rows that a
// few other layers choose for every token: what they share. A choosing layer attends in full and
// judges blocks by its newest query's softmax weights; the lists die with the step. As soon as a
// text has more than `blocks` blocks; prompts are dense. Tests: delta_test.cc, hylra_test.cc,
// runtime/policy_golden_test.cc.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "mneme/cache/cache_policy.h"
#include "mneme/cache/row_selection.h"

namespace mneme {

class BlockReading : public CachePolicy {
 public:
  // block: rows of a block; blocks: what a reading layer reads.
  BlockReading(const MemoryShape& shape, int64_t block, int64_t blocks);

  bool decodes_apart() const override { return true; }
  void enter(const PolicyStep& step, const PolicyRows& rows) final;
  std::span<const std::span<const PageView>> reads() const final { return selection_.views(); }
  Watch watch(const PolicyStep& step) const final;
  void leave(const PolicyStep& step, const SeenWeights& seen, PolicyRows& rows) final;

  // Blocks that a layer chose in the last step, increasing; nothing where there was no need to.
  std::span<const int32_t> chosen(int64_t layer) const {
    return chosen_[static_cast<size_t>(layer)];
  }
  // Rows read by queries of single tokens so far, over all layers, one KV head each.
  int64_t attended_rows() const { return attended_rows_; }

 protected:
  BlockReading(const BlockReading&) = default;

  virtual bool chooses(int64_t layer) const = 0;
  // The layer whose choice `layer` reads, an earlier one that chooses; -1: it reads everything.
  virtual int64_t source(int64_t layer) const = 0;
  // The blocks of a choosing layer's `rows` rows -> chosen, increasing.
  virtual void choose(const SeenWeights& seen, int64_t rows, std::vector<int32_t>& chosen) = 0;

 private:
  int64_t block_, blocks_;
  std::vector<std::vector<int32_t>> chosen_;  // [layers]
  RowSelection selection_;
  bool sparse_ = false;  // this step
  int64_t attended_rows_ = 0;
};

}  // namespace mneme
