// Policies that cut a layer to its budget when a text ends, each by a score of its own: what they
// share. A score says what a row is worth to one KV head; the first `sink` and the newest `window`
// rows are kept whatever they are worth, and of the others the best (of equal ones the earlier).
//
// Rows leave layer by layer while the text is read in one step. A policy may go on while decoding:
// then the layer stays at the number of rows it was cut to. Layers with a window of the model's own
// keep it. Tests: evicting_memory_test.cc.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "mneme/cache/cache_policy.h"
#include "mneme/cache/policy/row_budget.h"

namespace mneme {

struct EvictionOptions {
  std::string name;  // for messages
  RowBudget budget;
  int64_t window = 0, sink = 0;
};

class PromptEviction : public CachePolicy {
 public:
  PromptEviction(const MemoryShape& shape, const EvictionOptions& options);

  bool evicts() const override { return true; }
  bool wants_whole_text() const override { return true; }
  bool decodes_apart() const override { return cuts_while_decoding(); }
  std::string refusal(int64_t tokens, int64_t end, int64_t following) const override;
  int64_t settled_rows(int64_t layer, int64_t length) const override;
  void enter(const PolicyStep& step, const PolicyRows& rows) override;
  void leave(const PolicyStep& step, const SeenWeights& seen, PolicyRows& rows) override;
  void committed() override;
  void aborted() override;
  void cleared() override;
  std::vector<StateTensor> save_state() const override;
  void load_state(const TensorSource& state) override;

 protected:
  PromptEviction(const PromptEviction&) = default;

  // The rows of one KV head, as a score sees them.
  struct Candidates {
    const PolicyStep& step;
    const SeenWeights& seen;
    const PagedRows& rows;
    int64_t head;
  };
  // scores [rows before the window], overwritten.
  virtual void score(const Candidates& candidates, std::span<float> scores) = 0;
  // Rows of the layer_index-th of `layers` layers that take part, when they keep `rows` on average
  // of a text of `length`.
  virtual int64_t layer_rows(int64_t layer_index, int64_t layers, int64_t rows,
                             int64_t length) const {
    (void)layer_index, (void)layers, (void)length;
    return rows;
  }
  // Newest rows that stay in a layer cut to `limit` rows.
  virtual int64_t newest_rows(int64_t limit) const {
    (void)limit;
    return options_.window;
  }
  virtual bool cuts_while_decoding() const { return false; }
  // The row of a head that will go, or the rows that will be left.
  virtual void dropped(int64_t layer, int64_t head, int64_t index) {
    (void)layer, (void)head, (void)index;
  }
  virtual void kept(int64_t layer, int64_t head, std::span<const int64_t> indices) {
    (void)layer, (void)head, (void)indices;
  }

  // Whether the layer being asked has to let rows go in this step.
  bool cuts() const { return cuts_; }
  const EvictionOptions& options() const { return options_; }

 private:
  int64_t limit(int64_t layer, int64_t length) const;

  EvictionOptions options_;
  std::vector<int64_t> global_index_;  // [layers] among those that take part, -1: it does not
  int64_t global_layers_ = 0;
  std::vector<int64_t> limits_, next_limits_;  // [layers] rows while decoding, -1: none yet
  bool cuts_ = false;
};

}  // namespace mneme
