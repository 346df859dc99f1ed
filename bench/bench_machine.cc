// The limits of this machine at one thread and at the threads asked for: what the other benchmarks
// divide by.
#include "bench/bench.h"

namespace mneme::bench {
namespace {

void run(Report& report) {
  std::vector<int> counts = {1};
  if (report.threads() > 1) counts.push_back(report.threads());
  for (const int threads : counts) {
    const MachineLimits limits = measure_limits(threads);
    report.row({{"threads", threads},
                {"simd", limits.simd},
                {"fma_gflops", limits.fma_gflops},
                {"bf16_gflops", limits.bf16_gflops},
                {"read_gb_per_s", limits.read_gb_per_s},
                {"copy_gb_per_s", limits.copy_gb_per_s}});
  }
}

}  // namespace
}  // namespace mneme::bench

int main(int argc, char** argv) {
  return mneme::bench::report_main("machine", argc, argv, mneme::bench::run);
}
