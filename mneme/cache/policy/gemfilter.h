// GemFilter (2024, arXiv 2409.17422): the last token's attention in an early layer ranks the tokens of
// a prompt; the best of them, in their order, become a short prompt which the model reads from
// scratch. Upper layers never see the long one.
//
//   s[j] = sum over query heads h of q_h[n - 1] . k_g(h)[j]     layer r, rotated, neither scaled nor
//                                                              through a softmax
//   s'   = average of five neighbours, zeros outside counted
//   kept = the `keep` largest s', in text order, at new positions 0, 1, ...
//
// The choice is made anew for every text: the question must stand at its end. Texts of at most `keep`
// tokens are run as they are. Tests: gemfilter_test.cc, runtime/policy_golden_test.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "mneme/cache/policy/row_budget.h"
#include "mneme/cache/prompt_filter.h"

namespace mneme {

struct GemFilterOptions {
  int64_t layer = -1;  // r; -1: the layer nearest to 0.42 of the depth that sees the whole text
  RowBudget keep;
  int64_t pool = 5;
  int64_t force_first = 0, force_last = 0;  // tokens that are kept whatever they are worth
  bool softmax = false;                     // rank by weights instead of products
};

// Scores before pooling: q [q_heads, dim] of the last token, keys(j, head) -> [dim] of token j.
template <typename Keys>
std::vector<double> gemfilter_scores(const float* q, int64_t q_heads, int64_t kv_heads, int64_t dim,
                                     int64_t tokens, const Keys& keys) {
  std::vector<double> scores(static_cast<size_t>(tokens));
  // Heads of a KV head meet the same keys: their queries are added first.
  std::vector<double> sum(static_cast<size_t>(kv_heads * dim));
  const int64_t ratio = q_heads / kv_heads;
  for (int64_t i = 0; i < q_heads * dim; ++i)
    sum[static_cast<size_t>(i / dim / ratio * dim + i % dim)] += double{q[i]};
  for (int64_t j = 0; j < tokens; ++j) {
    for (int64_t head = 0; head < kv_heads; ++head) {
      const float* k = keys(j, head);
      double dot = 0;
      for (int64_t i = 0; i < dim; ++i)
        dot += sum[static_cast<size_t>(head * dim + i)] * double{k[i]};
      scores[static_cast<size_t>(j)] += dot;
    }
  }
  return scores;
}

// The chosen tokens, increasing; `pooled` gets s'.
std::vector<int32_t> gemfilter_choose(std::span<const double> scores,
                                      const GemFilterOptions& options, int64_t keep,
                                      std::vector<float>& pooled);

class GemFilter final : public PromptFilter {
 public:
  GemFilter(const MemoryShape& shape, const GemFilterOptions& options);

  int64_t kept(int64_t length) const override;
  std::unique_ptr<SequenceMemory> make_pass() const override;
  std::vector<int32_t> chosen(const SequenceMemory& pass) const override;
  // s' of the text the pass has seen.
  std::span<const float> scores(const SequenceMemory& pass) const;

  int64_t layer() const { return options_.layer; }

 private:
  MemoryShape shape_;  // of the first layer() + 1 layers
  GemFilterOptions options_;
};

}  // namespace mneme
