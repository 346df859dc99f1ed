// One tile of query rows against a range of keys, by online softmax (papers/01 section 3, forward):
// the arithmetic that flash_attention.h and flash_decode.h share. Tests: flash_attention_test.cc,
// flash_decode_test.cc.
#pragma once

#include <cstdint>

#include "mneme/kernels/flash_plan.h"

namespace mneme {

struct ForwardCall {
  const FlashPlan& plan;
  ConstHeads q, k, v;
  MutableHeads o;
  void* lse = nullptr;
  // Paged keys: token p of sequence b is slot p % page_tokens of page table[b * table_stride + p /
  // page_tokens], and strides.batch is the step from page to page. Null: not paged.
  const int32_t* table = nullptr;
  int64_t table_stride = 0, page_tokens = 1;

  // Elements from the data of k or v to key `key` of a KV head.
  int64_t key_offset(const HeadStrides& strides, const FlashSequence& sequence, int64_t kv_head,
                     int64_t key) const {
    if (table == nullptr) return FlashPlan::key_offset(strides, sequence, kv_head, key);
    const int64_t token = sequence.k_begin + key;
    const int64_t page = table[sequence.index * table_stride + token / page_tokens];
    return page * strides.batch + token % page_tokens * strides.token + kv_head * strides.head;
  }
};

// The answer over one range of keys: o normalised inside the range, lse = -infinity where nothing
// of it is seen.
struct ForwardPart {
  float* o = nullptr;    // [rows, head_dim]
  float* lse = nullptr;  // [rows]
};

// Floats of memory that a tile needs, 64-byte aligned.
int64_t forward_tile_floats(const FlashPlan& plan);

// Keys [begin, end) of those the tile sees, begin a multiple of kFlashKeyStep; into `part`, or
// where it is null into call.o and call.lse. Not for f64.
void forward_tile(const ForwardCall& call, const RowTile& tile, int64_t begin, int64_t end,
                  const ForwardPart* part, float* memory);

// The same in float64, row by row (flash_double.cc); all tiles.
void forward_double(const ForwardCall& call, AttentionScratch& scratch, ThreadPool& pool);

}  // namespace mneme
