// The writing half of flash_decode.h: checks of a cache, appended rows, rotary embeddings.
#pragma once

#include <vector>

#include "mneme/kernels/flash_decode.h"
#include "mneme/kernels/flash_plan.h"

namespace mneme {

// Throws Error on anything that flash_decode.h forbids.
void check_kv_cache(const FlashAttention& config, const KvCache& cache, const KvAppend& append,
                    const KvRotary& rotary);
// The sequences of the call, after the append.
std::vector<FlashSequence> kv_sequences(const FlashAttention& config, const KvCache& cache,
                                        const KvAppend& append);
void append_to_cache(const FlashAttention& config, const KvCache& cache, const KvAppend& append,
                     const KvRotary& rotary);
// The queries turned, as [B, q_len, q_heads, D] in `to`.
ConstHeads turn_queries(const FlashAttention& config, const ConstHeads& q, const KvCache& cache,
                        const KvRotary& rotary, std::vector<std::byte>& to);

}  // namespace mneme
