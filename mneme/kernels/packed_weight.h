// A quantised weight matrix laid out for packed_matmul.h: the same codes and scales as in the GGUF
// file, in another order, decoded by the same rule. Sixteen outputs lie side by side, so that the
// lanes of a vector are outputs and a block's scales are one load.
//
// A tile holds kTileOutputs outputs (rows of the matrix, zeros behind the last), all inputs, as
// groups of blocks of 32 inputs; what is read together lies together, so that a product with few
// rows reads the matrix as one stream. A group holds, one after the other:
//   unit    of the 256-element types, 64 bytes:
//     Q4_K Q5_K       f16 d [16], f16 dmin [16]
//     Q6_K            f16 d [16]
//   heads   [blocks of a group]:
//     Q4_0 Q5_0 Q8_0  f16 scale [16]; groups of 2 blocks
//     Q4_1 Q5_1       f16 scale [16], f16 minimum [16]; of 1
//     Q4_K Q5_K       u8 scale [16], u8 minimum [16]; of 8
//     Q6_K            i8 scale [2, 16], one for each half of the block; of 8
//   codes   [blocks; the last group may have fewer], lines of 64 bytes, byte 4 * output + i of a
//           line:
//     4 bits  4 lines: line j holds input 8j + i in its low nibbles, 8j + 4 + i in its high ones
//     5 bits  the same, then one line whose bit t is the fifth bit of vector t of the eight above
//     6 bits  the same, then two lines: bits 2 * (t % 4) and the next of line t / 4 belong to t
//     8 bits  8 lines: line j holds input 4j + i, as code + 128
//
// Value of a code q: scale * (q - centre) or scale * q + minimum, as in dequantize_naive.h. Bytes:
// those of the file, but for Q4_K and Q5_K, whose 6-bit scales take 8 (Q4_K: + 2.8 %), Q6_K, whose
// d is filled up to a line (+ 1 %), and the filling of the last tile. Tests: packed_weight_test.cc
// (every row decodes to the file's values).
#pragma once

#include <hwy/aligned_allocator.h>

#include <cstdint>
#include <string>

#include "mneme/core/tensor_view.h"
#include "mneme/core/thread_pool.h"

namespace mneme {

inline constexpr int64_t kTileOutputs = 16;
inline constexpr int64_t kPackedBlock = 32;

// How the codes and the scales of a type lie in a tile.
struct PackedLayout {
  enum class Head { kScale, kScaleMinimum, kSubScaleMinimum, kHalfSubScales };

  // Blocks of one unit of scales.
  static constexpr int64_t kUnitBlocks = 8;

  int code_bits = 0;
  Head head = Head::kScale;
  int centre = 0;  // subtracted from the codes
  int64_t in = 0;

  // Of one block of a tile.
  static constexpr int64_t code_bytes_of(int code_bits) { return code_bits * kTileOutputs * 4; }
  static constexpr int64_t head_bytes_of(Head head) {
    return kTileOutputs * (head == Head::kScaleMinimum ? 4 : 2);
  }
  static constexpr bool has_units(Head head) {
    return head == Head::kSubScaleMinimum || head == Head::kHalfSubScales;
  }
  static constexpr int64_t unit_bytes_of(Head head) { return has_units(head) ? 64 : 0; }
  // Blocks of a group: those of a unit, or as many as fill lines with their heads.
  static constexpr int64_t group_of(Head head) {
    return has_units(head) ? kUnitBlocks : 64 / head_bytes_of(head);
  }

  int64_t blocks() const { return in / kPackedBlock; }
  // Offsets in a tile of what belongs to a block.
  int64_t unit_offset(int64_t block) const;
  int64_t head_offset(int64_t block) const;
  int64_t codes_offset(int64_t block) const;
  int64_t tile_bytes() const;  // a multiple of 64
};

class PackedWeight {
 public:
  // Whether the type can be packed: Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K.
  static bool packs(DType dtype);

  // Copies weight [out, in]. Throws Error on another type, or a view too small for its shape.
  PackedWeight(const TensorView& weight, ThreadPool& pool);

  const std::string& name() const { return name_; }
  DType dtype() const { return dtype_; }
  int64_t out() const { return out_; }
  int64_t in() const { return layout_.in; }
  int64_t tiles() const;
  int64_t bytes() const { return tiles() * layout_.tile_bytes(); }
  const PackedLayout& layout() const { return layout_; }
  const uint8_t* tile(int64_t index) const { return data_.get() + index * layout_.tile_bytes(); }

  // Row `row` as float32 into out [in], the bits that dequantize_row gives for the file's row.
  void dequantize_row(int64_t row, float* out) const;

 private:
  std::string name_;
  DType dtype_;
  int64_t out_;
  PackedLayout layout_;
  hwy::AlignedFreeUniquePtr<uint8_t[]> data_;
};

}  // namespace mneme
