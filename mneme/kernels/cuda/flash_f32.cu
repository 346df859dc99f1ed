// The flash kernels for f32: one file a type, so that they compile side by side.
#include "mneme/kernels/cuda/flash_launch.cuh"
#include "mneme/kernels/cuda/stream_launch.cuh"

namespace mneme::cuda {

template void run_forward<F32>(const FlashAttention&, const FlashParams&, const StreamLaunch&);
template void run_backward<F32>(const FlashAttention&, const FlashParams&, const StreamLaunch&);

}  // namespace mneme::cuda
