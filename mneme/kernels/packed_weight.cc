#include "mneme/kernels/packed_weight.h"

#include <algorithm>
#include <cstring>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/core/half.h"
#include "mneme/kernels/matmul.h"

namespace mneme {
namespace {

constexpr int64_t kLine = 64;
constexpr int64_t kUnitBlocks = PackedLayout::kUnitBlocks;
using Head = PackedLayout::Head;

PackedLayout layout_of(DType dtype, int64_t in) {
  switch (dtype) {
    case DType::kQ4_0:
      return {4, Head::kScale, 8, in};
    case DType::kQ5_0:
      return {5, Head::kScale, 16, in};
    case DType::kQ8_0:
      return {8, Head::kScale, 128, in};
    case DType::kQ4_1:
      return {4, Head::kScaleMinimum, 0, in};
    case DType::kQ5_1:
      return {5, Head::kScaleMinimum, 0, in};
    case DType::kQ4_K:
      return {4, Head::kSubScaleMinimum, 0, in};
    case DType::kQ5_K:
      return {5, Head::kSubScaleMinimum, 0, in};
    case DType::kQ6_K:
      return {6, Head::kHalfSubScales, 32, in};
    default:
      return {};
  }
}

uint16_t load16(const uint8_t* bytes) { return static_cast<uint16_t>(bytes[0] | (bytes[1] << 8)); }

// One block of 32 elements of one row, taken apart.
struct Block {
  uint8_t codes[kPackedBlock];
  uint16_t scale = 0, minimum = 0;  // f16 bits; of a 256-element block d and dmin
  uint8_t sub_scale[2] = {};        // K types; Q6_K: of both halves
  uint8_t sub_minimum = 0;
};

// The 6-bit scale and minimum of sub-block j, as dequantize_naive.h describes them.
void sub_block_scales(int64_t j, const uint8_t* packed, Block& block) {
  if (j < 4) {
    block.sub_scale[0] = packed[j] & 63;
    block.sub_minimum = packed[j + 4] & 63;
  } else {
    block.sub_scale[0] = static_cast<uint8_t>((packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4));
    block.sub_minimum = static_cast<uint8_t>((packed[j + 4] >> 4) | ((packed[j] >> 6) << 4));
  }
}

// Nibbles of 32 elements whose halves share bytes, and a fifth bit each where `bits` is given.
void small_codes(const uint8_t* nibbles, const uint8_t* bits, Block& block) {
  for (int64_t i = 0; i < kPackedBlock; ++i) {
    const int nibble = i < 16 ? nibbles[i] & 15 : nibbles[i - 16] >> 4;
    const int fifth = bits == nullptr ? 0 : (bits[i / 8] >> (i % 8)) & 1;
    block.codes[i] = static_cast<uint8_t>(nibble | (fifth << 4));
  }
}

// Block `index` of 32 elements of a row in its file form.
Block read_block(DType dtype, const uint8_t* row, int64_t index) {
  Block block;
  const int64_t sub = index % kUnitBlocks;
  const auto small = [&](int64_t bytes) { return row + index * bytes; };
  const auto large = [&](int64_t bytes) { return row + index / kUnitBlocks * bytes; };
  switch (dtype) {
    case DType::kQ4_0: {
      const uint8_t* at = small(18);
      block.scale = load16(at);
      small_codes(at + 2, nullptr, block);
      break;
    }
    case DType::kQ4_1: {
      const uint8_t* at = small(20);
      block.scale = load16(at);
      block.minimum = load16(at + 2);
      small_codes(at + 4, nullptr, block);
      break;
    }
    case DType::kQ5_0: {
      const uint8_t* at = small(22);
      block.scale = load16(at);
      small_codes(at + 6, at + 2, block);
      break;
    }
    case DType::kQ5_1: {
      const uint8_t* at = small(24);
      block.scale = load16(at);
      block.minimum = load16(at + 2);
      small_codes(at + 8, at + 4, block);
      break;
    }
    case DType::kQ8_0: {
      const uint8_t* at = small(34);
      block.scale = load16(at);
      for (int64_t i = 0; i < kPackedBlock; ++i)
        block.codes[i] = static_cast<uint8_t>(at[2 + i] ^ 0x80u);
      break;
    }
    case DType::kQ4_K:
    case DType::kQ5_K: {
      const bool fifth = dtype == DType::kQ5_K;
      const uint8_t* at = large(fifth ? 176 : 144);
      block.scale = load16(at);
      block.minimum = load16(at + 2);
      sub_block_scales(sub, at + 4, block);
      const uint8_t* nibbles = at + (fifth ? 48 : 16) + sub / 2 * 32;
      for (int64_t i = 0; i < kPackedBlock; ++i) {
        const int nibble = sub % 2 == 0 ? nibbles[i] & 15 : nibbles[i] >> 4;
        const int bit = fifth ? (at[16 + i] >> sub) & 1 : 0;
        block.codes[i] = static_cast<uint8_t>(nibble | (bit << 4));
      }
      break;
    }
    default: {  // Q6_K; the constructor has refused every other type
      const uint8_t* at = large(210);
      block.scale = load16(at + 208);
      block.sub_scale[0] = at[192 + 2 * sub];
      block.sub_scale[1] = at[192 + 2 * sub + 1];
      const int64_t half = sub / 4, quarter = sub % 4;
      for (int64_t i = 0; i < kPackedBlock; ++i) {
        const uint8_t low = at[half * 64 + quarter % 2 * 32 + i];
        const int nibble = quarter < 2 ? low & 15 : low >> 4;
        const int pair = (at[128 + half * 32 + i] >> (2 * quarter)) & 3;
        block.codes[i] = static_cast<uint8_t>(nibble | (pair << 4));
      }
      break;
    }
  }
  return block;
}

// Where code i of output o lies: vector t = i / 4 of the block, byte 4 * o + i % 4 of its lines.
struct CodePlace {
  int64_t vector, byte;
};
CodePlace code_place(int64_t output, int64_t i) { return {i / 4, 4 * output + i % 4}; }

void put_code(const PackedLayout& layout, uint8_t* block, CodePlace at, uint8_t code) {
  if (layout.code_bits == 8) {
    block[at.vector * kLine + at.byte] = code;
    return;
  }
  block[at.vector / 2 * kLine + at.byte] |=
      static_cast<uint8_t>((code & 15u) << (at.vector % 2 * 4));
  uint8_t* upper = block + 4 * kLine + at.byte;
  if (layout.code_bits == 5) {
    *upper |= static_cast<uint8_t>((code >> 4) << at.vector);
  } else if (layout.code_bits == 6) {
    upper[at.vector / 4 * kLine] |= static_cast<uint8_t>((code >> 4) << (at.vector % 4 * 2));
  }
}

int get_code(const PackedLayout& layout, const uint8_t* block, CodePlace at) {
  if (layout.code_bits == 8) return block[at.vector * kLine + at.byte];
  const int low = (block[at.vector / 2 * kLine + at.byte] >> (at.vector % 2 * 4)) & 15;
  const uint8_t* upper = block + 4 * kLine + at.byte;
  switch (layout.code_bits) {
    case 5:
      return low | (((*upper >> at.vector) & 1) << 4);
    case 6:
      return low | (((upper[at.vector / 4 * kLine] >> (at.vector % 4 * 2)) & 3) << 4);
    default:
      return low;
  }
}

void put16(uint8_t* bytes, int64_t index, uint16_t bits) {
  std::memcpy(bytes + 2 * index, &bits, sizeof bits);
}
float get16(const uint8_t* bytes, int64_t index) { return f16_to_float(load16(bytes + 2 * index)); }

void put_heads(const PackedLayout& layout, uint8_t* tile, int64_t output, int64_t index,
               const Block& block) {
  uint8_t* head = tile + layout.head_offset(index);
  uint8_t* unit = tile + layout.unit_offset(index);
  switch (layout.head) {
    case Head::kScale:
      put16(head, output, block.scale);
      break;
    case Head::kScaleMinimum:
      put16(head, output, block.scale);
      put16(head, kTileOutputs + output, block.minimum);
      break;
    case Head::kSubScaleMinimum:
      head[output] = block.sub_scale[0];
      head[kTileOutputs + output] = block.sub_minimum;
      put16(unit, output, block.scale);
      put16(unit, kTileOutputs + output, block.minimum);
      break;
    case Head::kHalfSubScales:
      head[output] = block.sub_scale[0];
      head[kTileOutputs + output] = block.sub_scale[1];
      put16(unit, output, block.scale);
      break;
  }
}

}  // namespace

int64_t PackedLayout::unit_offset(int64_t block) const {
  const int64_t group = group_of(head);
  return block / group *
         (unit_bytes_of(head) + group * (head_bytes_of(head) + code_bytes_of(code_bits)));
}

int64_t PackedLayout::head_offset(int64_t block) const {
  return unit_offset(block) + unit_bytes_of(head) + block % group_of(head) * head_bytes_of(head);
}

int64_t PackedLayout::codes_offset(int64_t block) const {
  const int64_t group = group_of(head);
  return unit_offset(block) + unit_bytes_of(head) + group * head_bytes_of(head) +
         block % group * code_bytes_of(code_bits);
}

int64_t PackedLayout::tile_bytes() const {
  return in == 0 ? 0 : codes_offset(blocks() - 1) + code_bytes_of(code_bits);
}

bool PackedWeight::packs(DType dtype) { return layout_of(dtype, 0).code_bits != 0; }

int64_t PackedWeight::tiles() const { return ceil_div(out_, kTileOutputs); }

PackedWeight::PackedWeight(const TensorView& weight, ThreadPool& pool)
    : name_(weight.name), dtype_(weight.dtype) {
  MNEME_CHECK(weight.shape.size() == 2, "packed weight: expected a matrix, got ", name_, " ",
              shape_text(weight.shape));
  MNEME_CHECK(packs(dtype_), "packed weight: ", name_, " has type ", dtype_name(dtype_),
              ", expected one of Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K");
  out_ = weight.shape[0];
  layout_ = layout_of(dtype_, weight.shape[1]);
  const int64_t row_bytes = dtype_row_bytes(dtype_, layout_.in);
  MNEME_CHECK(weight.bytes >= checked_mul(out_, row_bytes, "packed weight"),
              "packed weight: ", name_, " ", shape_text(weight.shape), " needs ", out_ * row_bytes,
              " bytes, has ", weight.bytes);
  const int64_t bytes = checked_mul(tiles(), layout_.tile_bytes(), "packed weight");
  data_ = hwy::AllocateAligned<uint8_t>(static_cast<size_t>(std::max<int64_t>(bytes, 1)));
  MNEME_CHECK(data_ != nullptr, "packed weight: no memory for the ", bytes, " bytes of ", name_);
  const auto* rows = reinterpret_cast<const uint8_t*>(weight.data);
  pool.run(tiles(), [&](int64_t tile, int) {
    uint8_t* at = data_.get() + tile * layout_.tile_bytes();
    std::memset(at, 0, static_cast<size_t>(layout_.tile_bytes()));
    const int64_t outputs = std::min(kTileOutputs, out_ - tile * kTileOutputs);
    for (int64_t output = 0; output < outputs; ++output) {
      const uint8_t* row = rows + (tile * kTileOutputs + output) * row_bytes;
      for (int64_t index = 0; index < layout_.blocks(); ++index) {
        const Block block = read_block(dtype_, row, index);
        uint8_t* codes = at + layout_.codes_offset(index);
        for (int64_t i = 0; i < kPackedBlock; ++i)
          put_code(layout_, codes, code_place(output, i), block.codes[i]);
        put_heads(layout_, at, output, index, block);
      }
    }
  });
}

void PackedWeight::dequantize_row(int64_t row, float* out) const {
  MNEME_CHECK(row >= 0 && row < out_, "dequantize_row: ", name_, " has rows 0 to ", out_ - 1,
              ", got row ", row);
  const uint8_t* at = tile(row / kTileOutputs);
  const int64_t output = row % kTileOutputs;
  for (int64_t index = 0; index < layout_.blocks(); ++index) {
    const uint8_t* codes = at + layout_.codes_offset(index);
    const uint8_t* head = at + layout_.head_offset(index);
    const uint8_t* unit = at + layout_.unit_offset(index);
    for (int64_t i = 0; i < kPackedBlock; ++i) {
      const auto code =
          static_cast<float>(get_code(layout_, codes, code_place(output, i)) - layout_.centre);
      float* value = out + index * kPackedBlock + i;
      switch (layout_.head) {
        case Head::kScale:
          *value = get16(head, output) * code;
          break;
        case Head::kScaleMinimum:
          *value = get16(head, output) * code + get16(head, kTileOutputs + output);
          break;
        case Head::kSubScaleMinimum:
          *value =
              get16(unit, output) * static_cast<float>(head[output]) * code -
              get16(unit, kTileOutputs + output) * static_cast<float>(head[kTileOutputs + output]);
          break;
        case Head::kHalfSubScales:
          *value = get16(unit, output) *
                   static_cast<float>(static_cast<int8_t>(head[i / 16 * kTileOutputs + output])) *
                   code;
          break;
      }
    }
  }
}

}  // namespace mneme
