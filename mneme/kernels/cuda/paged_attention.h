// Attention of few queries over paged rows on a CUDA device (sm_80 and later): the twin of
// kernels/paged_attention.h, over the same pages bit for bit. Differences: pages, page tables,
// queries and results are device memory; head dimensions are at most 256; no sums of weights; the
// work is only queued on the stream. The order of every sum is fixed by the pages: results are the
// same bits in every run.
//
// Compiled by `make cuda`. The kernels are proved by running them on the CPU,
// paged_attention_emulated_test.cc; tests/cuda/paged_attention_test.cu compares them on a device with the CPU
// kernels.
#pragma once

#include <cstdint>

#include "mneme/kernels/paged_attention.h"

namespace mneme::cuda {

// Page tables on the device. PageView's pointers are device pointers; every page view must satisfy
// what the CPU kernel checks (1 to 64 rows, ordered by position): it cannot be checked from here.
struct DevicePages {
  const PageView* pages = nullptr;  // of KV head 0, then 1, ...
  const int32_t* begin = nullptr;   // [kv_heads + 1] where each head's pages begin
  int64_t longest = 0;              // pages of the head that has most
};

// Device bytes of partial results that a call needs.
int64_t paged_attention_workspace_bytes(const PagedAttention& config, int64_t queries,
                                        int64_t longest);

// q [queries, q_heads, k_dim], out [queries, q_heads, v_dim] float32. `stream` is a cudaStream_t;
// null: the default one. Throws Error naming what does not fit or the error of a launch.
void paged_attention(const PagedAttention& config, int64_t queries, int64_t first_position,
                     const float* q, const DevicePages& pages, float* out, void* workspace,
                     void* stream = nullptr);

}  // namespace mneme::cuda
