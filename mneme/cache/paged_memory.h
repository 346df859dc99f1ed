// A sequence memory of paged attention rows: one row format (how a row is stored) and one policy
// (which rows are kept) over ragged tables, one for each layer and KV head. `full`, `q8`, `q4` and
// `sliding(...)` are all this.
//
// Rows that no later query can see are freed page by page when a step commits, in layers with a
// window of their own too. Tests: paged_memory_test.cc.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "mneme/cache/memory.h"
#include "mneme/cache/paged_rows.h"
#include "mneme/cache/row_policy.h"

namespace mneme {

class PagedMemory final : public SequenceMemory {
 public:
  // format.k_dim and v_dim are taken from the shape. Throws Error when format and shape do not fit.
  // rotate_keys: queries and keys go through an orthonormal Hadamard transform first, which changes
  // no score but the error that quantising keys makes (kernels/hadamard.h).
  PagedMemory(std::string spec, const MemoryShape& shape, RowFormat format,
              std::shared_ptr<const RowPolicy> policy, bool rotate_keys = false);

  const std::string& spec() const override { return spec_; }
  const MemoryShape& shape() const override { return shape_; }
  Capabilities capabilities() const override;
  int64_t length() const override { return length_; }
  StepPlan plan(int64_t tokens) const override;
  void begin(const StepPlan& plan) override;
  void attend(const LayerStep& step, ThreadPool& pool) override;
  void commit() override;
  void abort() override;
  std::string cannot_trim_to(int64_t length) const override;
  void trim(int64_t length) override;
  std::unique_ptr<SequenceMemory> fork() const override;
  int64_t resident_bytes() const override;
  int64_t peak_bytes() const override { return peak_bytes_; }
  int64_t predict_bytes(int64_t length) const override;
  void set_budget(int64_t bytes) override { budget_bytes_ = bytes; }
  // For each layer and head: "L<layer>_H<head>_rows" U8 [rows, row bytes] and
  // "L<layer>_H<head>_runs" I32 [runs, 2], the first position and the number of rows of each run of
  // consecutive positions.
  std::vector<StateTensor> save_state() const override;
  void load_state(const TensorSource& state, int64_t length) override;

  const RowFormat& format() const { return format_; }
  const PagedRows& rows(int64_t layer, int64_t head) const {
    return rows_[static_cast<size_t>(layer * shape_.kv_heads + head)];
  }

 private:
  Visibility visibility(int64_t layer) const {
    return policy_->visibility(shape_.windows[static_cast<size_t>(layer)]);
  }
  // Pages one head of `layer` holds once `length` tokens are committed, and while `tokens` more are
  // being written.
  int64_t settled_pages(int64_t layer, int64_t length) const;
  int64_t bytes_of(int64_t pages) const;
  void drop_unseen(int64_t layer);

  std::string spec_;
  MemoryShape shape_;
  RowFormat format_;
  std::shared_ptr<const RowPolicy> policy_;
  bool rotate_keys_;
  std::vector<PagedRows> rows_;  // [layers * kv_heads]
  int64_t length_ = 0;
  int64_t step_tokens_ = 0;  // of the step under way; 0: none
  int64_t next_layer_ = 0;
  int64_t peak_bytes_ = 0;
  int64_t budget_bytes_ = 0;
  std::vector<std::span<const PageView>> views_;  // [kv_heads] of the layer being asked
};

}  // namespace mneme
