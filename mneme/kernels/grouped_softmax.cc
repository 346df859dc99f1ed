#include "mneme/kernels/grouped_softmax.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "mneme/core/error.h"

namespace mneme {
namespace {

// One row cut into its sections. `p` holds each column's share of its own group: p0 for landmarks
// and the current section, p_s elsewhere.
template <typename T>
class GroupedRow {
 public:
  explicit GroupedRow(const GroupedScores& shape)
      : columns_(shape.columns), landmarks_(shape.landmarks) {
    p_.resize(static_cast<size_t>(columns_));
    closed_.reserve(16);
  }

  // The first column of every closed section, and its landmark's.
  struct Section {
    int64_t begin = 0, landmark = 0;
  };

  void assign(const T* scores, const uint8_t* hidden) {
    hidden_ = hidden;
    int64_t last = columns_ - 1;
    while (last >= 0 && !seen(last)) --last;
    // The last visible column decides which section is current, a landmark being in the one it closes.
    closed_.clear();
    int64_t begin = 0;
    for (int64_t j = 0; j < last; ++j) {
      if (landmarks_[j] == 0) continue;
      closed_.push_back({begin, j});
      begin = j + 1;
    }
    open_ = begin;
    end_ = last + 1;
    std::fill(p_.begin(), p_.end(), T(0));
    for (const Section& section : closed_) {
      normalise(scores,
                [&](auto&& visit) { each_ordinary(section.begin, section.landmark, visit); });
    }
    normalise(scores, [&](auto&& visit) { each_top(visit); });
  }

  const std::vector<Section>& closed() const { return closed_; }
  T p(int64_t column) const { return p_[static_cast<size_t>(column)]; }

  template <typename Visit>
  void each_ordinary(int64_t begin, int64_t end, Visit&& visit) const {
    for (int64_t j = begin; j < end; ++j)
      if (landmarks_[j] == 0 && seen(j)) visit(j);
  }
  template <typename Visit>
  void each_current(Visit&& visit) const {
    each_ordinary(open_, end_, visit);
  }
  // The group of p0.
  template <typename Visit>
  void each_top(Visit&& visit) const {
    for (const Section& section : closed_)
      if (seen(section.landmark)) visit(section.landmark);
    each_current(visit);
  }

 private:
  bool seen(int64_t column) const { return hidden_ == nullptr || hidden_[column] == 0; }

  template <typename Group>
  void normalise(const T* scores, Group&& group) {
    T top = -std::numeric_limits<T>::infinity();
    group([&](int64_t j) { top = std::max(top, scores[j]); });
    if (std::isinf(top) && top < 0) return;
    T sum = 0;
    group([&](int64_t j) { sum += p_[static_cast<size_t>(j)] = std::exp(scores[j] - top); });
    group([&](int64_t j) { p_[static_cast<size_t>(j)] /= sum; });
  }

  int64_t columns_;
  const uint8_t* landmarks_;
  const uint8_t* hidden_ = nullptr;
  int64_t open_ = 0, end_ = 0;  // columns of the current section
  std::vector<Section> closed_;
  std::vector<T> p_;
};

void check(const GroupedScores& shape, const void* in, const void* out, const char* what) {
  MNEME_CHECK(shape.rows >= 0 && shape.columns >= 0, what, ": expected rows and columns >= 0, got ",
              shape.rows, " x ", shape.columns);
  if (shape.rows == 0 || shape.columns == 0) return;
  MNEME_CHECK(shape.landmarks != nullptr && in != nullptr && out != nullptr, what, ": null rows");
}

}  // namespace

template <typename T>
void grouped_softmax(const GroupedScores& shape, const T* scores, T* weights) {
  check(shape, scores, weights, "grouped_softmax");
  GroupedRow<T> row(shape);
  for (int64_t r = 0; r < shape.rows; ++r) {
    const int64_t at = r * shape.columns;
    row.assign(scores + at, shape.hidden == nullptr ? nullptr : shape.hidden + at);
    T* const out = weights + at;
    std::fill_n(out, shape.columns, T(0));
    for (const auto& section : row.closed()) {
      const T share = row.p(section.landmark);
      row.each_ordinary(section.begin, section.landmark,
                        [&](int64_t j) { out[j] = share * row.p(j); });
    }
    row.each_current([&](int64_t j) { out[j] = row.p(j); });
  }
}

template <typename T>
void grouped_softmax_backward(const GroupedScores& shape, const T* scores, const T* d_weights,
                              T* d_scores) {
  check(shape, scores, d_weights, "grouped_softmax_backward");
  check(shape, scores, d_scores, "grouped_softmax_backward");
  GroupedRow<T> row(shape);
  std::vector<T> g(static_cast<size_t>(shape.columns));
  for (int64_t r = 0; r < shape.rows; ++r) {
    const int64_t at = r * shape.columns;
    row.assign(scores + at, shape.hidden == nullptr ? nullptr : shape.hidden + at);
    std::copy_n(d_weights + at, shape.columns, g.begin());
    const auto of = [&](int64_t j) -> T& { return g[static_cast<size_t>(j)]; };
    T* const out = d_scores + at;
    std::fill_n(out, shape.columns, T(0));
    const auto differentiate = [&](auto&& group) {
      T mean = 0;
      group([&](int64_t j) { mean += row.p(j) * of(j); });
      group([&](int64_t j) { out[j] = row.p(j) * (of(j) - mean); });
    };
    for (const auto& section : row.closed()) {
      const T share = row.p(section.landmark);
      T gain = 0;
      row.each_ordinary(section.begin, section.landmark, [&](int64_t j) {
        gain += of(j) * row.p(j);
        of(j) *= share;
      });
      of(section.landmark) = gain;
      differentiate(
          [&](auto&& visit) { row.each_ordinary(section.begin, section.landmark, visit); });
    }
    differentiate([&](auto&& visit) { row.each_top(visit); });
  }
}

template void grouped_softmax(const GroupedScores&, const float*, float*);
template void grouped_softmax(const GroupedScores&, const double*, double*);
template void grouped_softmax_backward(const GroupedScores&, const float*, const float*, float*);
template void grouped_softmax_backward(const GroupedScores&, const double*, const double*, double*);

}  // namespace mneme
