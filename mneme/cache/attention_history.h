// What the newest queries of one layer looked at, and which older tokens the next one may see for it:
// the choice of sparse window attention. (papers/12 section 3.1; ALISA, ISCA 2024.)
//
// With n tokens, the new one included, and k = half_window(n, ratio):
//   S[j] = sum over the last k queries, all heads added up, of their weight on token j
//   read: the k tokens j < n - k with the largest S (of equal ones the older), and the newest k
// Queries give 0 to what they did not read. S is a sum over the newest queries only; a sum over all
// of them would be H2O's.
//
// No more than k + 1 queries are ever needed: when k grows, so does the number of queries, and faster.
// Tests: attention_history_test.cc.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "mneme/cache/memory.h"
#include "mneme/kernels/select.h"

namespace mneme {

class AttentionHistory {
 public:
  explicit AttentionHistory(double ratio) : ratio_(ratio) {}

  // The next query, which followed `tokens` tokens with its own, gave `weights` [n] to tokens 0...
  void push_dense(std::span<const float> weights);
  // It read `tokens` (increasing) only: weights [tokens].
  void push_sparse(std::span<const int32_t> tokens, std::span<const float> weights);
  // Queries that are remembered: k + 1 of the tokens so far at most.
  int64_t queries() const { return std::ssize(rows_); }
  void clear();

  // The older tokens that the next query reads, when it is the n-th token -> chosen, increasing; the
  // newest half_window(n) come on top. Nothing where n <= 2 k: it reads all there are.
  void choose(int64_t n, std::vector<int32_t>& chosen);
  // S of tokens 0 .. n - 2 for the next query; valid after choose().
  std::span<const float> sums() const { return sums_; }

  int64_t bytes() const;
  // bytes() when `queries` dense queries end a text of n tokens, before choose().
  static int64_t bytes_of_dense(int64_t n, int64_t queries);

  // Tensors "<prefix>..." with everything, and back. Throws Error naming what does not fit.
  void save(const std::string& prefix, std::vector<StateTensor>& state) const;
  static AttentionHistory load(const TensorSource& state, const std::string& prefix, double ratio,
                               int64_t length);

 private:
  struct Row {
    std::vector<int32_t> tokens;  // empty: 0, 1, 2, ...
    std::vector<float> weights;
  };
  void push(Row row, int64_t tokens);
  void add(const Row& row, float sign);

  double ratio_;
  std::deque<Row> rows_;     // oldest first
  std::vector<float> sums_;  // of the newest `summed_` rows
  int64_t summed_ = 0;
  int64_t since_ = 0;  // rows that left since the sums were made from scratch
  SelectScratch scratch_;
};

}  // namespace mneme
