#include "mneme/cache/policy/pooling.h"

#include <algorithm>

#include "mneme/core/error.h"

namespace mneme {

void average_pool(std::span<const double> x, int64_t kernel, std::span<float> out) {
  MNEME_CHECK(kernel > 0 && kernel % 2 == 1, "pooling: expected an odd kernel, got ", kernel);
  MNEME_ASSERT(out.size() == x.size());
  const auto n = std::ssize(x);
  for (int64_t i = 0; i < n; ++i) {
    // Summed anew each time: a running sum would carry the rounding of every neighbour before.
    const int64_t first = std::max<int64_t>(0, i - kernel / 2);
    const int64_t last = std::min(n - 1, i + kernel / 2);
    double sum = 0;
    for (int64_t j = first; j <= last; ++j) sum += x[static_cast<size_t>(j)];
    out[static_cast<size_t>(i)] = static_cast<float>(sum / static_cast<double>(kernel));
  }
}

}  // namespace mneme
