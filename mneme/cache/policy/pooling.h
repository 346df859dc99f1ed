// Smoothing of scores along the text, as eviction policies do it before they choose. Tests:
// pooling_test.cc.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mneme {

// Average over `kernel` neighbours (odd), stride 1: out[i] = sum of x[i - kernel/2 .. i + kernel/2] /
// kernel, where what lies outside x counts as zero. out [x.size()], not x itself.
void average_pool(std::span<const double> x, int64_t kernel, std::span<float> out);

}  // namespace mneme
