// How a call of flash_attention.h or flash_decode.h is cut into tiles of query rows. A row is a
// query of one of the heads that share a KV head: row r of a sequence is query r / ratio of head
// kv_head * ratio + r % ratio, so that a tile reads keys once for the whole group and a few queries
// still fill the lanes. Plain arithmetic, no SIMD. Tests: flash_attention_test.cc.
#pragma once

#include <cstdint>
#include <vector>

#include "mneme/kernels/flash_attention.h"

namespace mneme {

inline constexpr int64_t kFlashRows = 64;   // rows of a tile
inline constexpr int64_t kFlashKeys = 128;  // keys of a block; blocks start at its multiples
// Keys of a tile start at a multiple of it: the period of dropout's words, and of the running sums.
inline constexpr int64_t kFlashKeyStep = 4;

struct FlashSequence {
  int64_t index = 0;                 // b of the dropout counter and the slopes
  int64_t q_batch = 0, k_batch = 0;  // steps of the batch strides
  int64_t q_begin = 0, k_begin = 0;  // first token there
  int64_t q_len = 0, k_len = 0;
  int64_t lse_begin = 0;   // of head 0
  int64_t first_tile = 0;  // tiles of the sequences before, all KV heads
};

struct RowTile {
  const FlashSequence* sequence = nullptr;
  int64_t kv_head = 0;
  int64_t first_row = 0, rows = 0;       // rows 1..kFlashRows
  int64_t key_begin = 0, key_end = 0;    // keys that any row sees (begin rounded down to a step)
  int64_t full_begin = 0, full_end = 0;  // keys that every row sees
  bool all_see(int64_t begin, int64_t end) const { return begin >= full_begin && end <= full_end; }
};

// What differs from row to row, for whole vectors: lanes past the tile's rows repeat its last.
struct alignas(64) RowLanes {
  int32_t low[kFlashRows], high[kFlashRows];      // keys low..high are visible
  float position[kFlashRows], slope[kFlashRows];  // i + off; minus the ALiBi slope
  uint32_t query[kFlashRows], row[kFlashRows];    // i and b * q_heads + h of the dropout counter
};

struct FlashPlan {
  // Checks the configuration; throws Error.
  explicit FlashPlan(const FlashAttention& attention);
  // The same for sequences that the caller laid out (decode): everything but first_tile is set.
  FlashPlan(const FlashAttention& attention, std::vector<FlashSequence> rows);

  FlashAttention config;
  std::vector<FlashSequence> sequences;
  int64_t ratio = 1;   // query heads of one KV head
  int64_t right = -1;  // window_right with causal applied
  int64_t tiles = 0;   // of the whole call
  int64_t lse_head_stride = 0;
  float factor = 1;        // multiplies q . k (softcap: to the argument of tanh)
  float cap = 0;           // > 0: score = cap * tanh(factor * q . k)
  float keep_scale = 1;    // 1 / (1 - dropout)
  uint32_t keep_from = 0;  // dropout_threshold

  // Tiles in the order in which they are best begun: long ones first.
  RowTile tile(int64_t index) const;
  RowTile tile_of(const FlashSequence& sequence, int64_t kv_head, int64_t number) const;
  int64_t tiles_of(const FlashSequence& sequence) const;  // of one KV head
  int64_t index_of(const FlashSequence& sequence, int64_t kv_head, int64_t number) const {
    return sequence.first_tile + (tiles_of(sequence) - 1 - number) * config.kv_heads + kv_head;
  }

  int64_t query_of(const RowTile& tile, int64_t row) const {
    return (tile.first_row + row) / ratio;
  }
  int64_t head_of(const RowTile& tile, int64_t row) const {
    return tile.kv_head * ratio + (tile.first_row + row) % ratio;
  }
  int64_t lse_at(const RowTile& tile, int64_t row) const {
    return tile.sequence->lse_begin + head_of(tile, row) * lse_head_stride + query_of(tile, row);
  }
  // Elements from a tensor's data to a row of a tile, or to a key of a KV head.
  int64_t row_offset(const HeadStrides& strides, const RowTile& tile, int64_t row) const {
    return tile.sequence->q_batch * strides.batch +
           (tile.sequence->q_begin + query_of(tile, row)) * strides.token +
           head_of(tile, row) * strides.head;
  }
  static int64_t key_offset(const HeadStrides& strides, const FlashSequence& sequence,
                            int64_t kv_head, int64_t key) {
    return sequence.k_batch * strides.batch + (sequence.k_begin + key) * strides.token +
           kv_head * strides.head;
  }
  void fill_lanes(const RowTile& tile, RowLanes& lanes) const;

 private:
  void set_up();
};

// Bytes of an element of the types that attention takes; throws Error for others.
int64_t flash_element_bytes(DType dtype);

// Whether this machine has dot products of pairs of bf16 (AVX512-BF16).
bool machine_multiplies_bf16();

// Hands out parts of a block of floats, each starting on a 64-byte boundary; without a block it
// only counts.
class FloatCarver {
 public:
  explicit FloatCarver(float* memory) : memory_(memory) {}
  float* take(int64_t floats);
  int64_t used() const { return used_; }

 private:
  float* memory_;
  int64_t used_ = 0;
};

}  // namespace mneme
