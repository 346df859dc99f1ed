#include "mneme/kernels/cuda/flash_attention.h"

#include "mneme/kernels/cuda/flash_launch.cuh"
#include "mneme/kernels/cuda/stream_launch.cuh"

namespace mneme::cuda {

extern template void run_forward<F16>(const FlashAttention&, const FlashParams&,
                                      const StreamLaunch&);
extern template void run_forward<BF16>(const FlashAttention&, const FlashParams&,
                                       const StreamLaunch&);
extern template void run_forward<F32>(const FlashAttention&, const FlashParams&,
                                      const StreamLaunch&);
extern template void run_backward<F16>(const FlashAttention&, const FlashParams&,
                                       const StreamLaunch&);
extern template void run_backward<BF16>(const FlashAttention&, const FlashParams&,
                                        const StreamLaunch&);
extern template void run_backward<F32>(const FlashAttention&, const FlashParams&,
                                       const StreamLaunch&);

void flash_forward(const FlashAttention& config, const ConstHeads& q, const ConstHeads& k,
                   const ConstHeads& v, const MutableHeads& o, float* lse, void* stream) {
  FlashTensors tensors;
  tensors.q = q;
  tensors.k = k;
  tensors.v = v;
  tensors.o = o;
  tensors.lse = lse;
  const FlashParams params = flash_params(config, tensors);
  const StreamLaunch launch{static_cast<cudaStream_t>(stream)};
  switch (config.dtype) {
    case DType::kF16:
      return run_forward<F16>(config, params, launch);
    case DType::kBF16:
      return run_forward<BF16>(config, params, launch);
    default:
      return run_forward<F32>(config, params, launch);
  }
}

int64_t flash_backward_workspace_bytes(const FlashAttention& config) {
  const int64_t sequences = config.cu_q == nullptr ? config.batch : 1;
  return sequences * config.q_len * config.q_heads * static_cast<int64_t>(sizeof(float));
}

void flash_backward(const FlashAttention& config, const ConstHeads& dout, const ConstHeads& q,
                    const ConstHeads& k, const ConstHeads& v, const ConstHeads& o, const float* lse,
                    const FlashGradients& gradients, void* workspace, void* stream) {
  MNEME_CHECK(lse != nullptr, "cuda flash attention: the backward pass needs lse");
  FlashTensors tensors;
  tensors.q = q;
  tensors.k = k;
  tensors.v = v;
  tensors.o = {const_cast<void*>(o.data), o.strides};  // read only
  tensors.lse = const_cast<float*>(lse);               // read only
  tensors.dout = dout;
  tensors.gradients = gradients;
  tensors.delta = static_cast<float*>(workspace);
  const FlashParams params = flash_params(config, tensors);
  const StreamLaunch launch{static_cast<cudaStream_t>(stream)};
  switch (config.dtype) {
    case DType::kF16:
      return run_backward<F16>(config, params, launch);
    case DType::kBF16:
      return run_backward<BF16>(config, params, launch);
    default:
      return run_backward<F32>(config, params, launch);
  }
}

}  // namespace mneme::cuda
