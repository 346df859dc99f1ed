#include "mneme/kernels/cuda/paged_attention.h"

#include "mneme/kernels/cuda/paged_launch.cuh"
#include "mneme/kernels/cuda/stream_launch.cuh"

namespace mneme::cuda {

int64_t paged_attention_workspace_bytes(const PagedAttention& config, int64_t queries,
                                        int64_t longest) {
  check_paged(config, queries, 0, longest);
  return paged_workspace_bytes(config, queries, longest);
}

void paged_attention(const PagedAttention& config, int64_t queries, int64_t first_position,
                     const float* q, const DevicePages& pages, float* out, void* workspace,
                     void* stream) {
  run_paged(config, queries, first_position, q, pages, out, workspace,
            StreamLaunch{static_cast<cudaStream_t>(stream)});
}

}  // namespace mneme::cuda
