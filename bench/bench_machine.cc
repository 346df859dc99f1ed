// The limits of this machine at one thread and at the threads asked for: what the other benchmarks
// divide by.
#include "bench/bench.h"

int main(int argc, char** argv) try {
  mneme::bench::Report report("machine", argc, argv);
  std::vector<int> counts = {1};
  if (report.threads() > 1) counts.push_back(report.threads());
  for (const int threads : counts) {
    const mneme::bench::MachineLimits limits = mneme::bench::measure_limits(threads);
    report.row({{"threads", threads},
                {"simd", limits.simd},
                {"fma_gflops", limits.fma_gflops},
                {"read_gb_per_s", limits.read_gb_per_s},
                {"copy_gb_per_s", limits.copy_gb_per_s}});
  }
  report.finish();
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 2;
}
