#include "mneme/cache/policy/pooling.h"

#include <algorithm>

#include "mneme/core/error.h"

namespace mneme {

void average_pool(std::span<const double> x, int64_t kernel, std::span<float> out) {
  MNEME_CHECK(kernel > 0 && kernel % 2 == 1, "pooling: expected an odd kernel, got ", kernel);
  MNEME_ASSERT(out.size() == x.size());
  const int64_t n = std::ssize(x), reach = kernel / 2;
  // Summed anew for each element: a running sum would carry the rounding of all before.
  for (int64_t i = 0; i < n; ++i) {
    const int64_t first = std::max<int64_t>(0, i - reach), last = std::min(n - 1, i + reach);
    double sum = 0;
    for (int64_t j = first; j <= last; ++j) sum += x[static_cast<size_t>(j)];
    out[static_cast<size_t>(i)] = static_cast<float>(sum / static_cast<double>(kernel));
  }
}

}  // namespace mneme
