#include "mneme/kernels/vnni.h"

#include <atomic>

namespace mneme {
namespace {

bool processor_has_vnni() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

std::atomic<bool> vnni_allowed{true};

}  // namespace

bool use_vnni() {
  static const bool has = processor_has_vnni();
  return has && vnni_allowed.load(std::memory_order_relaxed);
}

void allow_vnni(bool allowed) { vnni_allowed.store(allowed, std::memory_order_relaxed); }

}  // namespace mneme
