// A sequence memory of paged attention rows: one row format (how a row is stored) and one policy
// (which rows are kept and read) over ragged tables, one for each layer and KV head. `full`, `q8`,
// `q4`, `sliding(...)` and every policy of cache/policy/ are all this.
//
// Rows that no later query can see are freed page by page when a step commits, in layers with a
// window of their own too. Tests: paged_memory_test.cc.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mneme/cache/cache_policy.h"
#include "mneme/cache/memory.h"
#include "mneme/cache/paged_rows.h"
#include "mneme/cache/prompt_filter.h"
#include "mneme/cache/query_window.h"

namespace mneme {

class PagedMemory final : public SequenceMemory {
 public:
  // format.k_dim and v_dim are taken from the shape. Throws Error when format and shape do not fit.
  // rotate_keys: queries and keys go through an orthonormal Hadamard transform first, which changes
  // no score but the error that quantising keys makes (kernels/hadamard.h).
  // policy: made for the same shape.
  // filter: chooses the tokens of texts before they are written; may be null.
  // rerotate: rows that are left close ranks (paged_memory_rerotate.cc); not beside a filter, which
  // gives new positions itself.
  PagedMemory(std::string spec, RowFormat format, std::unique_ptr<CachePolicy> policy,
              bool rotate_keys = false, std::shared_ptr<const PromptFilter> filter = nullptr,
              bool rerotate = false);

  const std::string& spec() const override { return spec_; }
  const MemoryShape& shape() const override { return policy_->shape(); }
  Capabilities capabilities() const override;
  int64_t length() const override { return length_; }
  const PromptFilter* prompt_filter() const override { return filter_.get(); }
  StepPlan plan(int64_t tokens, int64_t following) const override;
  void begin(const StepPlan& plan) override;
  void attend(const LayerStep& step, ThreadPool& pool) override;
  void commit() override;
  void abort() override;
  std::string cannot_trim_to(int64_t length) const override;
  void trim(int64_t length) override;
  std::unique_ptr<SequenceMemory> fork() const override;
  int64_t resident_bytes() const override;
  int64_t peak_bytes() const override { return peak_bytes_; }
  void count_filtered(int64_t tokens, int64_t bytes) override {
    filtered_tokens_ = tokens;
    peak_bytes_ = std::max(peak_bytes_, resident_bytes() + bytes);
  }
  int64_t filtered_tokens() const override { return filtered_tokens_; }
  int64_t predict_bytes(int64_t length) const override;
  void set_budget(int64_t bytes) override { budget_bytes_ = bytes; }
  // For each layer and head: "L<layer>_H<head>_rows" U8 [rows, row bytes] and
  // "L<layer>_H<head>_runs" I32 [runs, 2], the first position and the number of rows of each run of
  // consecutive positions; where rows were let go and still lie in their slots,
  // "L<layer>_H<head>_hidden" I32 [n, 1], their indices. "renumbered" I64 [1]: positions that closing
  // ranks has saved so far.
  std::vector<StateTensor> save_state() const override;
  void load_state(const TensorSource& state, int64_t length) override;

  const RowFormat& format() const { return format_; }
  const CachePolicy& policy() const { return *policy_; }
  const PagedRows& rows(int64_t layer, int64_t head) const { return rows_[index(layer, head)]; }

 private:
  class Keeper;
  size_t index(int64_t layer, int64_t head) const { return shape().head_index(layer, head); }
  // Bytes of one KV head of `layer` once `length` tokens are committed.
  int64_t settled_bytes(int64_t layer, int64_t head, int64_t length) const;
  // A step that runs a whole text from its beginning: a failure leaves nothing to restore.
  bool fresh(int64_t following) const { return length_ == 0 && following == 0; }
  void write_rows(const LayerStep& step, const float* k, ThreadPool& pool);
  SeenWeights attend_rows(const PolicyStep& step, const float* q, ThreadPool& pool);
  std::span<const std::span<double>> cleared_sums(int64_t layer) const;
  SeenWeights without_hidden(int64_t layer, int64_t queries, bool sums) const;
  // Drops what no query at `length` or later sees.
  void drop_unseen(int64_t layer, int64_t length);
  // Such a step in which rows come and leave layer by layer.
  bool layer_by_layer(int64_t following) const {
    return policy_->wants_whole_text() && fresh(following);
  }
  // Closing ranks (paged_memory_rerotate.cc). The most rows that a KV head holds: the position of the
  // next token once that is done.
  int64_t most_rows() const;
  void renumber();
  // After a step that ended a text or not, where it is time to.
  void maybe_renumber(bool text_ended);
  // Where a step begins: behind the rows instead of the gaps between them, if its text only fits so.
  int64_t start_of_step(int64_t tokens, int64_t following) const;
  // What a query at `length` would see and the memory does not hold; empty: it holds everything.
  std::string missing_row(int64_t length) const;

  std::string spec_;
  RowFormat format_;
  std::unique_ptr<CachePolicy> policy_;
  bool rotate_keys_;
  std::shared_ptr<const PromptFilter> filter_;
  bool rerotate_;
  std::vector<PagedRows> rows_;  // [layers * kv_heads]
  int64_t length_ = 0;
  StepPlan step_;  // under way; 0 tokens: none
  int64_t next_layer_ = 0;
  int64_t filtered_tokens_ = 0;  // of the text that have no position any more
  int64_t peak_bytes_ = 0;
  int64_t budget_bytes_ = 0;
  bool in_text_ = false;                // more of the newest token's text is to come
  std::optional<QueryWindow> queries_;  // then, where the policy judges by a window of queries
  // What is left of each head's rows once the step counts.
  struct Pending {
    bool cut = false;  // to `kept`
    std::vector<int64_t> kept;
    int64_t dropped = -1;  // -1: none

    void clear() {
      cut = false;  // `kept` stays for its room
      dropped = -1;
    }
  };
  std::vector<Pending> pending_;  // [layers * kv_heads]
};

}  // namespace mneme
