// What this machine can do at best, measured in the run that needs it: every benchmark prints its
// figures as a share of these. The peak of multiply-adds comes from independent chains in
// registers; the bandwidths from buffers far larger than any cache.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

namespace mneme {
class ThreadPool;
}

namespace mneme::bench {

struct MachineLimits {
  int threads = 0;
  std::string simd;       // the target that Highway chose, as "AVX3_DL"
  double fma_gflops = 0;  // f32, two operations a multiply-add, all threads together
  double bf16_gflops =
      0;  // the same of bf16 pairs added to f32; 0: the machine has no such products
  double read_gb_per_s = 0;  // sum over a buffer
  double copy_gb_per_s = 0;  // bytes read plus bytes written

  // Of floating-point products of any kind.
  double best_gflops() const { return std::max(fma_gflops, bf16_gflops); }
};

// Takes about a second. `threads` >= 1.
MachineLimits measure_limits(int threads);
// Some milliseconds of nothing but f32 multiply-adds on all threads of the pool -> the operations.
int64_t fma_burst(ThreadPool& pool);

// The single kernels, for one thread. Each returns a value that depends on all of its work.
float fma_chains(int64_t rounds);              // fma_flops_per_round() operations a round
int64_t fma_flops_per_round();                 // operations of one round on the chosen target
float bf16_chains(int64_t rounds);             // likewise
int64_t bf16_flops_per_round();                // 0 where the machine has no such products
float read_sum(const float* from, int64_t n);  // [n]
void copy_floats(const float* from, int64_t n, float* to);

}  // namespace mneme::bench
