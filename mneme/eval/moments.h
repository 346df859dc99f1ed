// Mean and standard error of a stream of numbers (Welford). Tests: perplexity_test.cc,
// continuation_test.cc, against sums written out.
#pragma once

#include <cmath>
#include <cstdint>

namespace mneme {

class Moments {
 public:
  void add(double value) {
    ++count_;
    const double delta = value - mean_;
    mean_ += delta / static_cast<double>(count_);
    squares_ += delta * (value - mean_);
  }
  int64_t count() const { return count_; }
  double mean() const { return mean_; }
  double standard_error() const {
    if (count_ < 2) return 0;
    const auto count = static_cast<double>(count_);
    return std::sqrt(squares_ / (count - 1) / count);
  }

 private:
  int64_t count_ = 0;
  double mean_ = 0, squares_ = 0;
};

}  // namespace mneme
