// Speed of matmul.h against the machine's limits, measured in the same run: the rate of fused
// multiply-adds for many rows, the rate of reading memory for one row. Arguments: threads (2).
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "mneme/kernels/matmul.h"
#include "mneme/kernels/weight_testing.h"

namespace mneme {
namespace {

double seconds_of(const auto& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The median of nine runs, after one that warms up.
double median_seconds(const auto& body) {
  body();
  std::vector<double> times(9);
  for (double& time : times) time = seconds_of(body);
  std::nth_element(times.begin(), times.begin() + 4, times.end());
  return times[4];
}

#if defined(__x86_64__)
// Twelve independent chains of multiply-adds of the widest vectors this machine has.
template <typename Vector>
inline __attribute__((always_inline)) void fma_chains(int64_t rounds) {
  Vector a[12], factor, addend;
  for (size_t i = 0; i < sizeof(Vector) / 4; ++i) factor[i] = 0.5f, addend[i] = 0.25f;
  for (Vector& chain : a) chain = addend;
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < 12; ++i) {
      a[i] = a[i] * factor + addend;
      asm volatile("" : "+v"(a[i]));
    }
  }
}
typedef float Floats8 __attribute__((vector_size(32)));
typedef float Floats16 __attribute__((vector_size(64)));
__attribute__((target("avx2,fma"))) void fma8(int64_t rounds) { fma_chains<Floats8>(rounds); }
__attribute__((target("avx512f,fma"))) void fma16(int64_t rounds) { fma_chains<Floats16>(rounds); }
#endif

double peak_gflops(ThreadPool& pool) {
#if defined(__x86_64__)
  const bool wide = __builtin_cpu_supports("avx512f");
  constexpr int64_t kRounds = 2000000;
  const double time = median_seconds(
      [&] { pool.run(pool.size(), [&](int64_t, int) { wide ? fma16(kRounds) : fma8(kRounds); }); });
  return 2e-9 * kRounds * 12 * (wide ? 16 : 8) * pool.size() / time;
#else
  return 0;
#endif
}

double read_gbytes(const std::vector<uint64_t>& data, ThreadPool& pool) {
  constexpr int64_t kPart = 1 << 15;
  const int64_t parts = static_cast<int64_t>(data.size()) / kPart;
  std::vector<uint64_t> sums(static_cast<size_t>(parts));
  const double time = median_seconds([&] {
    pool.run(parts, [&](int64_t part, int) {
      uint64_t sum[32] = {};
      for (int64_t i = 0; i < kPart; i += 32) {
#pragma GCC unroll 32
        for (int64_t j = 0; j < 32; ++j) sum[j] ^= data[static_cast<size_t>(part * kPart + i + j)];
      }
      for (const uint64_t lane : sum) sums[static_cast<size_t>(part)] ^= lane;
    });
  });
  return static_cast<double>(data.size()) * 8e-9 / time;
}

void run(int threads) {
  ThreadPool pool(threads);
  const double peak = peak_gflops(pool);
  const double reading = read_gbytes(std::vector<uint64_t>(16 << 20, 1), pool);
  std::printf("threads %d, FMA peak %.1f GFLOP/s, reading %.1f GB/s\n\n", threads, peak, reading);

  std::printf("512 rows        GFLOP/s (share of peak)\n%-6s", "");
  const std::vector<std::pair<int64_t, int64_t>> shapes = {
      {576, 576}, {1536, 576}, {576, 1536}, {192, 576}};
  for (const auto& [out, in] : shapes) {
    std::printf("   %5ld x %4ld  ", static_cast<long>(out), static_cast<long>(in));
  }
  std::printf("\n");
  for (const DType dtype : {DType::kF32, DType::kQ4_1, DType::kQ8_0, DType::kQ4_K, DType::kQ6_K}) {
    std::printf("%-6s", std::string(dtype_name(dtype)).c_str());
    for (auto [out, in] : shapes) {
      if (dtype_info(dtype).block_elements == 256) in = in / 256 * 256;
      const RandomWeight weight(dtype, out, in, 1);
      const std::vector<float> x = random_floats(512 * in, 2);
      std::vector<float> y(static_cast<size_t>(512 * out));
      const double time =
          median_seconds([&] { matmul(weight.view(), x.data(), 512, in, y.data(), out, pool); });
      const double rate = 2e-9 * 512 * static_cast<double>(out * in) / time;
      std::printf("   %6.1f (%3.0f %%)", rate, 100 * rate / peak);
    }
    std::printf("\n");
  }

  std::printf("\none row         GB/s of weights (share of reading), us\n");
  for (const DType dtype : kWeightTypes) {
    std::printf("%-6s", std::string(dtype_name(dtype)).c_str());
    for (auto [out, in] : {std::pair<int64_t, int64_t>{1536, 576}, {49152, 576}}) {
      if (dtype_info(dtype).block_elements == 256) in = 512;
      // Enough copies that the weights come from memory, as those of a model do.
      const RandomWeight weight(dtype, out, in, 1);
      const int64_t copies = std::max<int64_t>(1, (96 << 20) / weight.view().bytes);
      std::vector<std::byte> data(static_cast<size_t>(copies * weight.view().bytes));
      std::vector<TensorView> views(static_cast<size_t>(copies), weight.view());
      for (int64_t c = 0; c < copies; ++c) {
        views[static_cast<size_t>(c)].data = data.data() + c * weight.view().bytes;
        std::copy_n(weight.view().data, weight.view().bytes, data.data() + c * weight.view().bytes);
      }
      const std::vector<float> x = random_floats(in, 2);
      std::vector<float> y(static_cast<size_t>(out));
      const double time = median_seconds([&] {
        for (const TensorView& view : views) matmul(view, x.data(), 1, in, y.data(), out, pool);
      });
      const double rate = 1e-9 * static_cast<double>(data.size()) / time;
      std::printf("   %5ld x %4ld %6.1f (%3.0f %%) %8.1f us", static_cast<long>(out),
                  static_cast<long>(in), rate, 100 * rate / reading,
                  1e6 * time / static_cast<double>(copies));
    }
    std::printf("\n");
  }
}

}  // namespace
}  // namespace mneme

int main(int argc, char** argv) {
  mneme::run(argc > 1 ? std::atoi(argv[1]) : 2);
  return 0;
}
