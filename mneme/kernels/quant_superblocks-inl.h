// Decoders of the 256-element blocks (Q4_K, Q5_K, Q6_K); the contract is in quant_blocks-inl.h.
// Their float scales are one multiplication of an f16 by an integer, exact in float32, done for the
// whole block at once and kept in State.
#include <cstdint>

#include "mneme/kernels/quant_blocks-inl.h"

#if defined(MNEME_KERNELS_QUANT_SUPERBLOCKS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_KERNELS_QUANT_SUPERBLOCKS_INL_H_
#undef MNEME_KERNELS_QUANT_SUPERBLOCKS_INL_H_
#else
#define MNEME_KERNELS_QUANT_SUPERBLOCKS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {

// Scales and minima of the eight sub-blocks of Q4_K and Q5_K.
struct SubBlocks {
  static constexpr int64_t kBlock = 256, kChunk = 64;
  struct State {
    alignas(64) float factor[16];  // d scale [8], then -dmin minimum [8]
  };

  static HWY_INLINE void prepare(const uint8_t* HWY_RESTRICT block, State& state) {
    // Bytes 0-3 and 4-7 hold six bits of scales and minima 0-3; bytes 8-11 the low nibbles of
    // scales and minima 4-7, whose high pairs lie atop bytes 0-3 and 4-7.
    uint32_t first, second, third;
    memcpy(&first, block + 4, 4);
    memcpy(&second, block + 8, 4);
    memcpy(&third, block + 12, 4);
    alignas(16) uint32_t words[4];
    words[0] = first & 0x3f3f3f3fu;
    words[1] = (third & 0x0f0f0f0fu) | ((first >> 2) & 0x30303030u);
    words[2] = second & 0x3f3f3f3fu;
    words[3] = ((third >> 4) & 0x0f0f0f0fu) | ((second >> 2) & 0x30303030u);
    const auto* bytes = reinterpret_cast<const uint8_t*>(words);
    const VF scale = broadcast_f16(block);
    const VF minimum = hn::Neg(broadcast_f16(block + 2));
    HWY_UNROLL(16)
    for (int64_t i = 0; i < 16; i += kLanes) {
      VF unit = i < 8 ? scale : minimum;
      if constexpr (kLanes == 16) {
        unit = hn::IfThenElse(hn::FirstN(DF(), 8), scale, minimum);
      }
      hn::Store(hn::Mul(unit, to_float(load_bytes(bytes + i))), DF(), state.factor + i);
    }
  }

  static HWY_INLINE VF scale(const State& state, int64_t sub) {
    return hn::Set(DF(), state.factor[sub]);
  }
  static HWY_INLINE VF offset(const State& state, int64_t sub) {
    return hn::Set(DF(), state.factor[8 + sub]);
  }
};

template <>
struct Decoder<DType::kQ4_K> : SubBlocks {
  static constexpr int64_t kBytes = 144;
  static HWY_INLINE void decode(const uint8_t* HWY_RESTRICT block, const State& state, int64_t j,
                                VF* w) {
    const uint8_t* HWY_RESTRICT q = block + 16 + j * 32;
    const Nibbles low(scale(state, 2 * j), offset(state, 2 * j));
    const Nibbles high(scale(state, 2 * j + 1), offset(state, 2 * j + 1));
    HWY_UNROLL(32)
    for (int64_t i = 0; i < 2 * kParts; ++i) {
      const VU bytes = load_bytes(q + i * kLanes);
      w[i] = low.low(bytes);
      w[2 * kParts + i] = high.high(bytes);
    }
  }
};

template <>
struct Decoder<DType::kQ5_K> : SubBlocks {
  static constexpr int64_t kBytes = 176;
  static HWY_INLINE void decode(const uint8_t* HWY_RESTRICT block, const State& state, int64_t j,
                                VF* w) {
    const uint8_t* HWY_RESTRICT q = block + 48 + j * 32;
    const uint8_t* HWY_RESTRICT fifth = block + 16;
    const VF low_scale = scale(state, 2 * j), low_offset = offset(state, 2 * j);
    const VF high_scale = scale(state, 2 * j + 1), high_offset = offset(state, 2 * j + 1);
    const VU low_bit = hn::Set(DU(), uint32_t{1} << (2 * j));
    const VU high_bit = hn::Set(DU(), uint32_t{2} << (2 * j));
    const VU sixteen = hn::Set(DU(), 16);
    HWY_UNROLL(32)
    for (int64_t i = 0; i < 2 * kParts; ++i) {
      const VU bytes = load_bytes(q + i * kLanes), bits = load_bytes(fifth + i * kLanes);
      const VU low_sixteen = hn::IfThenElseZero(hn::TestBit(bits, low_bit), sixteen);
      const VU high_sixteen = hn::IfThenElseZero(hn::TestBit(bits, high_bit), sixteen);
      const VU low = hn::Or(hn::And(bytes, hn::Set(DU(), 15)), low_sixteen);
      const VU high = hn::Or(hn::ShiftRight<4>(bytes), high_sixteen);
      w[i] = hn::MulAdd(low_scale, to_float(low), low_offset);
      w[2 * kParts + i] = hn::MulAdd(high_scale, to_float(high), high_offset);
    }
  }
};

template <>
struct Decoder<DType::kQ6_K> {
  static constexpr int64_t kBlock = 256, kChunk = 128, kBytes = 210;
  struct State {
    alignas(64) float scale[16];
  };

  static HWY_INLINE void prepare(const uint8_t* HWY_RESTRICT block, State& state) {
    const VF unit = broadcast_f16(block + 208);
    const auto* scales = reinterpret_cast<const int8_t*>(block + 192);
    HWY_UNROLL(16)
    for (int64_t i = 0; i < 16; i += kLanes) {
      const auto wide = hn::PromoteTo(DI(), hn::LoadU(hn::Rebind<int8_t, DF>(), scales + i));
      hn::Store(hn::Mul(unit, hn::ConvertTo(DF(), wide)), DF(), state.scale + i);
    }
  }

  static HWY_INLINE void decode(const uint8_t* HWY_RESTRICT block, const State& state, int64_t j,
                                VF* w) {
    const uint8_t* HWY_RESTRICT low = block + j * 64;
    const uint8_t* HWY_RESTRICT pairs = block + 128 + j * 32;
    const float* scale = state.scale + j * 8;
    const VU fifteen = hn::Set(DU(), 15), pair = hn::Set(DU(), 0x30);
    HWY_UNROLL(32)
    for (int64_t i = 0; i < 2 * kParts; ++i) {
      const VU bytes0 = load_bytes(low + i * kLanes), bytes1 = load_bytes(low + 32 + i * kLanes);
      const VU high = load_bytes(pairs + i * kLanes);
      const VU q[4] = {
          hn::Or(hn::And(bytes0, fifteen), hn::And(hn::ShiftLeft<4>(high), pair)),
          hn::Or(hn::And(bytes1, fifteen), hn::And(hn::ShiftLeft<2>(high), pair)),
          hn::Or(hn::ShiftRight<4>(bytes0), hn::And(high, pair)),
          hn::Or(hn::ShiftRight<4>(bytes1), hn::And(hn::ShiftRight<2>(high), pair)),
      };
      HWY_UNROLL(4)
      for (int64_t quarter = 0; quarter < 4; ++quarter) {
        const VF unit = hn::Set(DF(), scale[quarter * 2 + i * kLanes / 16]);
        w[quarter * 2 * kParts + i] =
            hn::MulAdd(unit, to_float(q[quarter]), hn::Mul(unit, hn::Set(DF(), -32.0f)));
      }
    }
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();
#endif
