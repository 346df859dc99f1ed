// Launches CUDA kernels on the emulator.
#pragma once

#include "mneme/kernels/cuda/launch_grid.h"
#include "mneme/kernels/cuda/platform.cuh"

namespace mneme::testing {

// Address sanitizers do not follow a stack that changes under them.
#if defined(MNEME_SANITIZED)
inline constexpr bool kCanEmulate = false;
#else
inline constexpr bool kCanEmulate = true;
#endif

struct EmulatedLaunch {
  template <class Params>
  void operator()(void (*kernel)(Params), const cuda::LaunchGrid& grid, int threads,
                  int64_t shared_bytes, const Params& params) const {
    cuda::emulate({static_cast<int>(grid.x), static_cast<int>(grid.y), static_cast<int>(grid.z)},
                  threads, shared_bytes, [&] { kernel(params); });
  }
};

}  // namespace mneme::testing
