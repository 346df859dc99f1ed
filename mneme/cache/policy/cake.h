// CAKE (ICLR 2025, antgroup/cakekv): one budget for the whole model; every layer gets the share that
// its attention asks for, and keeps the rows its last queries look at most and most unsteadily.
//
//   A [Sw, n]: weights of a query head's last Sw queries over the n = rows - Sw rows before them
//   H_l = - sum A log(A + 1e-10)              dispersion, over heads, queries, rows
//   V_l = sum_rows Var_queries(A)             shift, unbiased
//   P_l = H_l^(1/tau1) * V_l^(1/tau2)         preference
//   I[j] = pool5(mean_q A[q, j] + gamma * Var_q A[q, j]), mean over a KV head's query heads
//   b_l = adjust(P_l / sum P * (C - Sw) * layers)
//
// After layer m of a text, layers 0..m are cut to the shares they have of the budget so far: the
// memory never holds more than the budget and one whole layer. While decoding, a layer over its
// budget lets the rows go which the newest query looks at least. Layers with a window of the
// model's own keep it and have no share. State and cost: docs/papers/30-cake.md. Tests:
// cake_test.cc.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "mneme/cache/cache_policy.h"
#include "mneme/cache/policy/row_budget.h"

namespace mneme {

struct CakeOptions {
  RowBudget budget;     // C: average rows of a layer, window included
  int64_t window = 32;  // Sw
  double gamma = 200;
  double tau1 = 1, tau2 = 1;
  int64_t pool = 5;
  bool cascading = true;  // false: cut once, after the last layer
  // The official cache lies in the order of scores, which changes what pooling averages while
  // decoding; ours in the order of positions.
  bool score_order = false;
};

struct CakeScores {
  double entropy = 0, variance = 0;           // H, V
  std::vector<std::vector<float>> indicator;  // [kv_heads][rows - queries]
  double preference(const CakeOptions& options) const;
};

// seen: all rows' weights of the last queries (at least 2) of a text of `rows` rows.
CakeScores cake_scores(const SeenWeights& seen, int64_t q_heads, int64_t kv_heads, int64_t rows,
                       const CakeOptions& options);

// Whole numbers near `shares` that add up to `total` where the cap allows it: paper page section 3,
// step 6, to the letter (one pass of each kind, so a layer may end above the cap).
std::vector<int64_t> cake_adjust(std::span<const double> shares, int64_t total, int64_t cap);

// Budgets outside the window for the layers whose preferences are given; equal ones where those sum
// to nothing finite.
std::vector<int64_t> cake_budgets(std::span<const double> preferences, int64_t total, int64_t cap);

// Scores of a KV head's rows before the window while decoding -> scores, one for each entry of
// `order`: the rows in the order pooling runs over. seen holds the newest query's weights; `mean` is
// scratch.
void cake_decode_scores(const SeenWeights& seen, int64_t q_heads, int64_t kv_heads, int64_t head,
                        std::span<const int64_t> order, int64_t pool, std::vector<double>& mean,
                        std::vector<float>& scores);

class Cake final : public CachePolicy {
 public:
  Cake(const MemoryShape& shape, const CakeOptions& options);

  std::unique_ptr<CachePolicy> clone() const override { return std::make_unique<Cake>(*this); }
  bool names_positions() const override { return options_.score_order; }
  bool evicts() const override { return true; }
  bool wants_whole_text() const override { return true; }
  bool decodes_apart() const override { return true; }
  std::string refusal(int64_t tokens, int64_t end, int64_t following) const override;
  int64_t settled_rows(int64_t layer, int64_t length) const override;
  int64_t query_window() const override { return options_.window; }
  void enter(const PolicyStep& step, const PolicyRows& rows) override;
  Watch watch(const PolicyStep& step) const override;
  void leave(const PolicyStep& step, const SeenWeights& seen, PolicyRows& rows) override;
  void committed() override;
  void aborted() override { next_.reset(); }
  void cleared() override;
  std::vector<StateTensor> save_state() const override;
  void load_state(const TensorSource& state) override;
  int64_t state_bytes() const override;

  // Of each layer, -1 where it has none: those recorded at the end of the last text.
  std::span<const int64_t> budgets() const { return state_.budgets; }
  std::span<const double> preferences() const { return state_.preferences; }

 private:
  void judge_text(const PolicyStep& step, const SeenWeights& seen, PolicyRows& rows);
  void cut_layer(int64_t layer, int64_t budget, PolicyRows& rows);
  void cut_while_decoding(const PolicyStep& step, const SeenWeights& seen, PolicyRows& rows);
  void order_rows(int64_t layer, int64_t head, const PagedRows& rows,
                  std::vector<int64_t>& order) const;

  struct State {
    std::vector<double> preferences;  // [layers]
    std::vector<int64_t> budgets;     // [layers]
    // [layers * kv_heads] positions in the order of scores, where score_order asks for it.
    std::vector<std::vector<int32_t>> order;
  };
  // The state the step under way will leave.
  State& next();

  CakeOptions options_;
  std::vector<int64_t> global_layers_;
  State state_;
  std::optional<State> next_;
  std::vector<std::vector<float>> indicators_;  // [layers * kv_heads] of the rows before the window
  bool over_budget_ = false;                    // the layer being asked, while decoding
};

}  // namespace mneme
