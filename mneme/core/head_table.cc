#include "mneme/core/head_table.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "mneme/core/error.h"

namespace mneme {
namespace {

// The rank of each value, from 0, equal ones sharing the mean of theirs.
std::vector<double> mean_ranks(std::span<const double> values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, {}, [&](size_t at) { return values[at]; });
  std::vector<double> ranks(values.size());
  for (size_t first = 0; first < order.size();) {
    size_t last = first;
    while (last < order.size() && values[order[last]] == values[order[first]]) ++last;
    const double rank = static_cast<double>(first + last - 1) / 2;
    for (; first < last; ++first) ranks[order[first]] = rank;
  }
  return ranks;
}

}  // namespace

std::string head_text(const HeadId& id) { return concat("(", id.layer, ",", id.head, ")"); }

HeadTable::HeadTable(int64_t layers, int64_t heads) : layers_(layers), heads_(heads) {
  MNEME_CHECK(layers > 0 && heads > 0, "head table: layers and heads must be positive, got ",
              layers, " and ", heads);
  values_.assign(static_cast<size_t>(layers * heads), 0);
}

size_t HeadTable::index(const HeadId& id) const {
  MNEME_CHECK(id.layer >= 0 && id.layer < layers_ && id.head >= 0 && id.head < heads_, "head ",
              head_text(id), " is not one of ", layers_, " layers with ", heads_, " query heads");
  return static_cast<size_t>(id.layer * heads_ + id.head);
}

std::vector<HeadId> HeadTable::ranking() const {
  std::vector<HeadId> order;
  order.reserve(values_.size());
  for (int64_t i = 0; i < std::ssize(values_); ++i) {
    MNEME_CHECK(!std::isnan(values_[static_cast<size_t>(i)]), "head table: head ", head_text(id(i)),
                " is not a number");
    order.push_back(id(i));
  }
  std::ranges::stable_sort(order, std::greater<>(), [&](const HeadId& head) { return at(head); });
  return order;
}

std::vector<HeadId> random_heads(const std::vector<HeadId>& ranking, int64_t skip, int64_t count,
                                 Rng& rng) {
  MNEME_CHECK(skip >= 0 && count >= 0 && count <= std::ssize(ranking) - skip,
              "random heads: expected 0 to ", std::ssize(ranking) - skip,
              " of those behind the first ", skip, ", got ", count);
  std::vector<HeadId> rest(ranking.begin() + skip, ranking.end());
  for (int64_t i = 0; i < count; ++i)
    std::swap(rest[static_cast<size_t>(i)],
              rest[static_cast<size_t>(i + rng.below(std::ssize(rest) - i))]);
  rest.resize(static_cast<size_t>(count));
  return rest;
}

double rank_correlation(const HeadTable& a, const HeadTable& b) {
  MNEME_CHECK(a.layers() == b.layers() && a.heads() == b.heads() && a.layers() > 0,
              "rank correlation: tables of ", a.layers(), " x ", a.heads(), " and ", b.layers(),
              " x ", b.heads(), " heads");
  const std::vector<double> x = mean_ranks(a.values()), y = mean_ranks(b.values());
  const double mean = static_cast<double>(x.size() - 1) / 2;
  double xx = 0, yy = 0, xy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    xx += (x[i] - mean) * (x[i] - mean);
    yy += (y[i] - mean) * (y[i] - mean);
    xy += (x[i] - mean) * (y[i] - mean);
  }
  MNEME_CHECK(xx > 0 && yy > 0, "rank correlation: every head of one table has the same value");
  return xy / std::sqrt(xx * yy);
}

}  // namespace mneme
