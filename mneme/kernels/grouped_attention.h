// Attention of one query over blocks of rows, fused with the grouped softmax of landmark tokens
// (grouped_softmax.h, papers/39 section 3.1): blocks stream through one online softmax, and a closed
// block is a single item of it.
//
//   open block:    every row j is an item with logit s_j and value v_j
//   closed block:  one item with the logit of its last row, the landmark, and the value
//                  sum over the other rows of softmax(s)_j v_j
//   s_j = softcap(scale * q . k_j)
//
// So the cost is that of attention with one more normalisation a block. Every block comes with a
// query of its own: rotary positions turn the query, not the rows, by the distance between query and
// block. The order of every sum is fixed by the blocks and their order alone, so a query's answer has
// the same bits whatever else is asked. Tests: grouped_attention_test.cc (grouped_softmax as the
// twin, every target).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "mneme/kernels/row_block.h"

namespace mneme {

struct BlockItem {
  const std::byte* block = nullptr;  // as RowBlock lays it out
  const float* q = nullptr;          // [k_dim], turned for this block
  int64_t first = 0;                 // rows [first, first + rows) are seen
  int64_t rows = 0;
  bool closed = false;  // the last of these rows is the block's landmark
};

struct BlockScale {
  float scale = 1;    // multiplies q . k
  float softcap = 0;  // > 0: s = softcap * tanh(s / softcap)
};

// Scores of rows [first, first + rows) -> scores, which has room for rows + 16 floats.
void score_rows(const RowBlock& layout, BlockScale scale, const BlockItem& item, float* scores);

// out [v_dim]; zeros where the items hold nothing. `scratch` grows to the largest call. Throws Error
// on rows outside a block.
void grouped_attention(const RowBlock& layout, BlockScale scale, std::span<const BlockItem> items,
                       float* out, std::vector<float>& scratch);

}  // namespace mneme
