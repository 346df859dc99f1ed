// One number for every query head of a model, and the order that follows from it: what retrieval
// heads (papers/40) and conflict heads (papers/34) are ranked in, and what policies and pruning
// read. Tests: head_table_test.cc.
#pragma once

#include <compare>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "mneme/core/rng.h"

namespace mneme {

struct HeadId {
  int64_t layer = 0;
  int64_t head = 0;  // of the query heads
  auto operator<=>(const HeadId&) const = default;
};

// "(18,6)"
std::string head_text(const HeadId& id);

class HeadTable {
 public:
  HeadTable() = default;
  // Zeros. Throws Error unless both are positive.
  HeadTable(int64_t layers, int64_t heads);

  int64_t layers() const { return layers_; }
  int64_t heads() const { return heads_; }
  double& at(const HeadId& id) { return values_[index(id)]; }
  double at(const HeadId& id) const { return values_[index(id)]; }
  std::span<double> values() { return values_; }  // [layers, heads]
  std::span<const double> values() const { return values_; }
  HeadId id(int64_t index) const { return {index / heads_, index % heads_}; }

  // Every head, the largest value first; equal ones by layer, then head. Throws Error on NaN.
  std::vector<HeadId> ranking() const;

 private:
  // Throws Error naming a head that the table does not have.
  size_t index(const HeadId& id) const;

  int64_t layers_ = 0, heads_ = 0;
  std::vector<double> values_;
};

// `count` different heads of a ranking, drawn from those behind its first `skip`. Throws Error when
// there are fewer.
std::vector<HeadId> random_heads(const std::vector<HeadId>& ranking, int64_t skip, int64_t count,
                                 Rng& rng);

// Spearman's rank correlation of two tables of one shape, equal values sharing their mean rank.
// Throws Error where one of them is the same everywhere: it then has no order.
double rank_correlation(const HeadTable& a, const HeadTable& b);

}  // namespace mneme
