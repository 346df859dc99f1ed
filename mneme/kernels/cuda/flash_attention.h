// FlashAttention-2 on a CUDA device (sm_80 and later): the twin of kernels/flash_attention.h, with
// the same options, masks, dropout and meaning of every argument. Differences: tensors, slopes, cu_q
// and cu_k are device memory; head_dim is at most 256; there is no f64; the work is only queued on
// the stream. Float32 products are made of tf32 halves and err by about 2^-21 of each product's
// size, twice plain float32's. Results are the same bits in every run.
//
// Compiled by `make cuda`. The kernels are proved by running them on the CPU,
// flash_attention_emulated_test.cc; tests/cuda/flash_attention_test.cu compares them on a device with the CPU
// kernels.
#pragma once

#include <cstdint>

#include "mneme/kernels/flash_attention.h"

namespace mneme::cuda {

// `stream` is a cudaStream_t; null: the default one. lse may be null. Throws Error naming what does
// not fit or the error of a launch.
void flash_forward(const FlashAttention& config, const ConstHeads& q, const ConstHeads& k,
                   const ConstHeads& v, const MutableHeads& o, float* lse, void* stream = nullptr);

// Device bytes that a backward call needs: one float a query row.
int64_t flash_backward_workspace_bytes(const FlashAttention& config);

void flash_backward(const FlashAttention& config, const ConstHeads& dout, const ConstHeads& q,
                    const ConstHeads& k, const ConstHeads& v, const ConstHeads& o, const float* lse,
                    const FlashGradients& gradients, void* workspace, void* stream = nullptr);

}  // namespace mneme::cuda
