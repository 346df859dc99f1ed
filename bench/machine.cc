#include "bench/machine.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/machine.cc"
#include "hwy/foreach_target.h"
// foreach_target.h comes before highway.h.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::bench {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;

// Ten chains cover a latency of four or five cycles at two multiply-adds a cycle; more would spill
// on targets with 16 registers.
constexpr int64_t kChains = 10;

int64_t FmaFlopsPerRound() { return 2 * kChains * static_cast<int64_t>(hn::Lanes(F32())); }

float FmaChains(int64_t rounds) {
  const F32 d;
  const auto scale = hn::Set(d, 0.999f);
  const auto shift = hn::Set(d, 0.001f);
  auto a = hn::Iota(d, 0.0f), b = hn::Iota(d, 1.0f), c = hn::Iota(d, 2.0f), e = hn::Iota(d, 3.0f),
       f = hn::Iota(d, 4.0f), g = hn::Iota(d, 5.0f), h = hn::Iota(d, 6.0f), i = hn::Iota(d, 7.0f),
       j = hn::Iota(d, 8.0f), k = hn::Iota(d, 9.0f);
  for (int64_t round = 0; round < rounds; ++round) {
    a = hn::MulAdd(a, scale, shift);
    b = hn::MulAdd(b, scale, shift);
    c = hn::MulAdd(c, scale, shift);
    e = hn::MulAdd(e, scale, shift);
    f = hn::MulAdd(f, scale, shift);
    g = hn::MulAdd(g, scale, shift);
    h = hn::MulAdd(h, scale, shift);
    i = hn::MulAdd(i, scale, shift);
    j = hn::MulAdd(j, scale, shift);
    k = hn::MulAdd(k, scale, shift);
  }
  const auto sum = hn::Add(hn::Add(hn::Add(a, b), hn::Add(c, e)),
                           hn::Add(hn::Add(f, g), hn::Add(hn::Add(h, i), hn::Add(j, k))));
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

#if HWY_TARGET == HWY_AVX3
int64_t Bf16FlopsPerRound() { return 2 * FmaFlopsPerRound(); }

float Bf16Chains(int64_t rounds) {
  const F32 d;
  // Pairs of small bf16 numbers in every lane.
  const auto pairs = hn::BitCast(d, hn::Set(hn::RebindToUnsigned<F32>(), 0x3a833a83u));
  const auto step = [&](hn::Vec<F32>& sum) HWY_ATTR {
    // Not an intrinsic: those need the instruction set switched on for the whole function.
    asm("vdpbf16ps %1, %1, %0" : "+v"(sum.raw) : "v"(pairs.raw));
  };
  auto a = hn::Zero(d), b = a, c = a, e = a, f = a, g = a, h = a, i = a, j = a, k = a;
  for (int64_t round = 0; round < rounds; ++round) {
    step(a), step(b), step(c), step(e), step(f);
    step(g), step(h), step(i), step(j), step(k);
  }
  const auto sum = hn::Add(hn::Add(hn::Add(a, b), hn::Add(c, e)),
                           hn::Add(hn::Add(f, g), hn::Add(hn::Add(h, i), hn::Add(j, k))));
  return hn::GetLane(hn::SumOfLanes(d, sum));
}
#else
int64_t Bf16FlopsPerRound() { return 0; }
float Bf16Chains(int64_t) { return 0; }
#endif

float ReadSum(const float* from, int64_t n) {
  const F32 d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto a = hn::Zero(d), b = hn::Zero(d), c = hn::Zero(d), e = hn::Zero(d);
  int64_t at = 0;
  for (; at + 4 * lanes <= n; at += 4 * lanes) {
    a = hn::Add(a, hn::LoadU(d, from + at));
    b = hn::Add(b, hn::LoadU(d, from + at + lanes));
    c = hn::Add(c, hn::LoadU(d, from + at + 2 * lanes));
    e = hn::Add(e, hn::LoadU(d, from + at + 3 * lanes));
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(a, b), hn::Add(c, e))));
  for (; at < n; ++at) sum += from[at];
  return sum;
}

void CopyFloats(const float* from, int64_t n, float* to) {
  const F32 d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t at = 0;
  for (; at + 2 * lanes <= n; at += 2 * lanes) {
    const auto first = hn::LoadU(d, from + at);
    const auto second = hn::LoadU(d, from + at + lanes);
    hn::StoreU(first, d, to + at);
    hn::StoreU(second, d, to + at + lanes);
  }
  for (; at < n; ++at) to[at] = from[at];
}

const char* SimdName() { return hwy::TargetName(HWY_TARGET); }

}  // namespace HWY_NAMESPACE
}  // namespace mneme::bench
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <vector>

#include "bench/bench.h"
#include "mneme/core/error.h"
#include "mneme/core/thread_pool.h"
#include "mneme/kernels/flash_plan.h"

namespace mneme::bench {
namespace {

HWY_EXPORT(FmaFlopsPerRound);
HWY_EXPORT(FmaChains);
HWY_EXPORT(Bf16FlopsPerRound);
HWY_EXPORT(Bf16Chains);
HWY_EXPORT(ReadSum);
HWY_EXPORT(CopyFloats);
HWY_EXPORT(SimdName);

constexpr int kRuns = 7;
constexpr int64_t kFmaRounds = 2'000'000;
constexpr int64_t kFloatsPerThread = int64_t{32} << 20;  // 128 MiB, past a shared last-level cache

}  // namespace

int64_t fma_flops_per_round() { return HWY_DYNAMIC_DISPATCH(FmaFlopsPerRound)(); }
float fma_chains(int64_t rounds) { return HWY_DYNAMIC_DISPATCH(FmaChains)(rounds); }
int64_t bf16_flops_per_round() {
  return machine_multiplies_bf16() ? HWY_DYNAMIC_DISPATCH(Bf16FlopsPerRound)() : 0;
}
float bf16_chains(int64_t rounds) { return HWY_DYNAMIC_DISPATCH(Bf16Chains)(rounds); }
float read_sum(const float* from, int64_t n) { return HWY_DYNAMIC_DISPATCH(ReadSum)(from, n); }
void copy_floats(const float* from, int64_t n, float* to) {
  HWY_DYNAMIC_DISPATCH(CopyFloats)(from, n, to);
}

int64_t fma_burst(ThreadPool& pool) {
  pool.run(pool.size(), [&](int64_t, int) { keep(fma_chains(kFmaRounds)); });
  return pool.size() * kFmaRounds * fma_flops_per_round();
}

MachineLimits measure_limits(int threads) {
  MNEME_CHECK(threads >= 1, "measure_limits: threads must be at least 1, got ", threads);
  ThreadPool pool(threads);
  MachineLimits limits;
  limits.threads = threads;
  limits.simd = HWY_DYNAMIC_DISPATCH(SimdName)();

  // The best run, not the median: a limit is what the machine reaches when nobody disturbs it.
  int64_t operations = 0;
  const Timing fma = time_runs(kRuns, [&] { operations = fma_burst(pool); });
  limits.fma_gflops = static_cast<double>(operations) / fma.min_s / 1e9;

  if (const int64_t flops = bf16_flops_per_round(); flops > 0) {
    const Timing bf16 = time_runs(
        kRuns, [&] { pool.run(threads, [&](int64_t, int) { keep(bf16_chains(kFmaRounds)); }); });
    limits.bf16_gflops = static_cast<double>(threads * kFmaRounds * flops) / bf16.min_s / 1e9;
  }

  std::vector<std::vector<float>> from(static_cast<size_t>(threads)), to(from.size());
  pool.run(threads, [&](int64_t task, int) {  // touched where they are used
    from[static_cast<size_t>(task)].assign(kFloatsPerThread, 1.0f);
    to[static_cast<size_t>(task)].assign(kFloatsPerThread, 0.0f);
  });
  const double bytes = static_cast<double>(threads * kFloatsPerThread * 4);
  const Timing read = time_runs(kRuns, [&] {
    pool.run(threads, [&](int64_t task, int) {
      keep(read_sum(from[static_cast<size_t>(task)].data(), kFloatsPerThread));
    });
  });
  limits.read_gb_per_s = bytes / read.min_s / 1e9;
  const Timing copy = time_runs(kRuns, [&] {
    pool.run(threads, [&](int64_t task, int) {
      const auto at = static_cast<size_t>(task);
      copy_floats(from[at].data(), kFloatsPerThread, to[at].data());
    });
  });
  limits.copy_gb_per_s = 2 * bytes / copy.min_s / 1e9;
  return limits;
}

}  // namespace mneme::bench
#endif  // HWY_ONCE
