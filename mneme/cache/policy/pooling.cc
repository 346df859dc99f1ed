#include "mneme/cache/policy/pooling.h"

#include <algorithm>

#include "mneme/core/error.h"

namespace mneme {

void average_pool(std::span<const double> x, int64_t kernel, std::span<float> out) {
  MNEME_CHECK(kernel > 0 && kernel % 2 == 1, "pooling: expected an odd kernel, got ", kernel);
  MNEME_ASSERT(out.size() == x.size());
  const int64_t n = std::ssize(x), reach = kernel / 2;
  const auto at = [&](int64_t i) {
    const int64_t first = std::max<int64_t>(0, i - reach), last = std::min(n - 1, i + reach);
    double sum = 0;
    for (int64_t j = first; j <= last; ++j) sum += x[static_cast<size_t>(j)];
    return static_cast<float>(sum / static_cast<double>(kernel));
  };
  // Summed anew for each element: a running sum would carry the rounding of all before.
  int64_t i = 0;
  for (; i < std::min(n, reach); ++i) out[static_cast<size_t>(i)] = at(i);
  // Those with all their neighbours a few at once, each in the same order of summing.
  constexpr int64_t kTogether = 8;
  for (; i + kTogether + reach <= n; i += kTogether) {
    double sums[kTogether] = {};
    for (const double* from = x.data() + i - reach; from <= x.data() + i + reach; ++from)
      for (int64_t k = 0; k < kTogether; ++k) sums[k] += from[k];
    float averages[kTogether];
    for (int64_t k = 0; k < kTogether; ++k)
      averages[k] = static_cast<float>(sums[k] / static_cast<double>(kernel));
    std::copy_n(averages, kTogether, out.data() + i);
  }
  for (; i < n; ++i) out[static_cast<size_t>(i)] = at(i);
}

}  // namespace mneme
