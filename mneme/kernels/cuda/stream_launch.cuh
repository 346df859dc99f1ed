// Launches kernels on a CUDA stream and turns CUDA's errors into ours.
#pragma once

#include <cuda_runtime.h>

#include "mneme/core/error.h"
#include "mneme/kernels/cuda/launch_grid.h"

namespace mneme::cuda {

inline void check_cuda(cudaError_t status, const char* what) {
  MNEME_CHECK(status == cudaSuccess, what, ": ", cudaGetErrorString(status));
}

struct StreamLaunch {
  cudaStream_t stream = nullptr;

  // A grid with nothing in it is not launched.
  template <class Params>
  void operator()(void (*kernel)(Params), const LaunchGrid& grid, int threads, int64_t shared_bytes,
                  const Params& params) const {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    constexpr int64_t kStaticLimit = 48 << 10;
    const auto* function = reinterpret_cast<const void*>(kernel);
    if (shared_bytes > kStaticLimit) {
      check_cuda(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      static_cast<int>(shared_bytes)),
                 "cuda: shared memory of a block");
    }
    void* arguments[] = {const_cast<Params*>(&params)};
    check_cuda(cudaLaunchKernel(function,
                                dim3(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y),
                                     static_cast<unsigned>(grid.z)),
                                dim3(static_cast<unsigned>(threads)), arguments,
                                static_cast<size_t>(shared_bytes), stream),
               "cuda: launch");
  }
};

}  // namespace mneme::cuda
