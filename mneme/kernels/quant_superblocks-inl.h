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

// An f16 of the block in every lane.
HWY_INLINE VF broadcast_f16(const uint8_t* HWY_RESTRICT bytes) {
  const hn::Rebind<hwy::float16_t, DF> d16;
  const hn::Rebind<uint16_t, DF> du16;
  uint16_t bits;
  memcpy(&bits, bytes, sizeof bits);
  return hn::PromoteTo(DF(), hn::BitCast(d16, hn::Set(du16, bits)));
}

// The 6-bit scales [8] and minima [8] of the eight sub-blocks as bytes. Bytes 0-3 and 4-7 of
// `packed` hold six bits of scales and minima 0-3; bytes 8-11 the low nibbles of scales and minima
// 4-7, whose high pairs lie atop bytes 0-3 and 4-7.
HWY_INLINE void unpack_scales(const uint8_t* HWY_RESTRICT packed, uint8_t* HWY_RESTRICT scales) {
#if HWY_TARGET == HWY_SCALAR
  for (int i = 0; i < 4; ++i) {
    scales[i] = packed[i] & 63;
    scales[4 + i] = static_cast<uint8_t>((packed[8 + i] & 15) | ((packed[i] >> 2) & 48));
    scales[8 + i] = packed[4 + i] & 63;
    scales[12 + i] = static_cast<uint8_t>((packed[8 + i] >> 4) | ((packed[4 + i] >> 2) & 48));
  }
#else
  const hn::FixedTag<uint8_t, 16> d8;
  alignas(16) static constexpr uint8_t kLow[16] = {0, 1, 2, 3, 8, 9, 10, 11,
                                                   4, 5, 6, 7, 8, 9, 10, 11};
  alignas(16) static constexpr uint8_t kLowMask[16] = {63, 63, 63, 63, 15, 15, 15, 15,
                                                       63, 63, 63, 63, 0,  0,  0,  0};
  alignas(16) static constexpr uint8_t kUpperMask[16] = {0, 0, 0, 0, 0,  0,  0,  0,
                                                         0, 0, 0, 0, 15, 15, 15, 15};
  alignas(16) static constexpr uint8_t kPairs[16] = {0, 0, 0, 0, 0, 1, 2, 3,
                                                     0, 0, 0, 0, 4, 5, 6, 7};
  alignas(16) static constexpr uint8_t kPairMask[16] = {0, 0, 0, 0, 48, 48, 48, 48,
                                                        0, 0, 0, 0, 48, 48, 48, 48};
  const auto all = hn::LoadU(d8, packed);  // four bytes of codes behind the twelve
  const auto low = hn::TableLookupBytes(all, hn::Load(d8, kLow));
  const auto pairs = hn::TableLookupBytes(all, hn::Load(d8, kPairs));
  const auto first = hn::And(low, hn::Load(d8, kLowMask));
  const auto second = hn::And(hn::ShiftRight<4>(low), hn::Load(d8, kUpperMask));
  const auto third = hn::And(hn::ShiftRight<2>(pairs), hn::Load(d8, kPairMask));
  hn::Store(hn::Or(first, hn::Or(second, third)), d8, scales);
#endif
}

// Scales and minima of the eight sub-blocks of Q4_K and Q5_K.
struct SubBlocks {
  static constexpr int64_t kBlock = 256, kChunk = 64, kAhead = 1;
  template <int64_t kCount>
  struct State {
    alignas(64) float factor[kCount][16];  // d scale [8], then -dmin minimum [8]

    HWY_INLINE VF scale(int64_t n, int64_t sub) const { return hn::Set(DF(), factor[n][sub]); }
    HWY_INLINE VF offset(int64_t n, int64_t sub) const { return hn::Set(DF(), factor[n][8 + sub]); }
  };

  template <int64_t kCount>
  static HWY_INLINE void prepare(const uint8_t* const* HWY_RESTRICT blocks, State<kCount>& state) {
    HWY_UNROLL(8)
    for (int64_t n = 0; n < kCount; ++n) {
      alignas(16) uint8_t scales[16];
      unpack_scales(blocks[n] + 4, scales);
      const VF scale = broadcast_f16(blocks[n]);
      const VF minimum = hn::Neg(broadcast_f16(blocks[n] + 2));
      HWY_UNROLL(16)
      for (int64_t i = 0; i < 16; i += kLanes) {
        VF unit = i < 8 ? scale : minimum;
        if constexpr (kLanes == 16) unit = hn::IfThenElse(hn::FirstN(DF(), 8), scale, minimum);
        const VF codes = to_float(load_bytes(scales + i));
        hn::Store(hn::Mul(unit, codes), DF(), state.factor[n] + i);
      }
    }
    keep_in_memory(state);
  }
};

template <>
struct Decoder<DType::kQ4_K> : SubBlocks {
  static constexpr int64_t kBytes = 144;
  template <typename State>
  static HWY_INLINE void decode(const uint8_t* HWY_RESTRICT block, const State& state, int64_t n,
                                int64_t j, VF* w) {
    const uint8_t* HWY_RESTRICT q = block + 16 + j * 32;
    const Nibbles first(state.scale(n, 2 * j), state.offset(n, 2 * j));
    const Nibbles second(state.scale(n, 2 * j + 1), state.offset(n, 2 * j + 1));
    HWY_UNROLL(32)
    for (int64_t i = 0; i < 2 * kParts; ++i) {
      const VU bytes = load_bytes(q + i * kLanes);
      w[i] = first.low(bytes);
      w[2 * kParts + i] = second.high(bytes);
    }
  }
};

template <>
struct Decoder<DType::kQ5_K> : SubBlocks {
  static constexpr int64_t kBytes = 176;
  template <typename State>
  static HWY_INLINE void decode(const uint8_t* HWY_RESTRICT block, const State& state, int64_t n,
                                int64_t j, VF* w) {
    const uint8_t* HWY_RESTRICT q = block + 48 + j * 32;
    const uint8_t* HWY_RESTRICT fifth = block + 16;
    const VF scale = state.scale(n, 2 * j), offset = state.offset(n, 2 * j);
    const VF high_scale = state.scale(n, 2 * j + 1), high_offset = state.offset(n, 2 * j + 1);
    const VU low_bit = hn::Set(DU(), uint32_t{1} << (2 * j));
    const VU high_bit = hn::Set(DU(), uint32_t{2} << (2 * j)), sixteen = hn::Set(DU(), 16);
    HWY_UNROLL(32)
    for (int64_t i = 0; i < 2 * kParts; ++i) {
      const VU bytes = load_bytes(q + i * kLanes), bits = load_bytes(fifth + i * kLanes);
      const VU low = hn::And(bytes, hn::Set(DU(), 15)), high = hn::ShiftRight<4>(bytes);
      const VU low5 = hn::IfThenElse(hn::TestBit(bits, low_bit), hn::Or(low, sixteen), low);
      const VU high5 = hn::IfThenElse(hn::TestBit(bits, high_bit), hn::Or(high, sixteen), high);
      w[i] = hn::MulAdd(scale, to_float(low5), offset);
      w[2 * kParts + i] = hn::MulAdd(high_scale, to_float(high5), high_offset);
    }
  }
};

// The 6-bit codes are put together sixteen bytes at a time and widened last.
template <>
struct Decoder<DType::kQ6_K> {
  static constexpr int64_t kBlock = 256, kChunk = 128, kBytes = 210, kAhead = 1;
  template <int64_t kCount>
  struct State {
    alignas(64) float scale[kCount][16];
  };

  template <int64_t kCount>
  static HWY_INLINE void prepare(const uint8_t* const* HWY_RESTRICT blocks, State<kCount>& state) {
    HWY_UNROLL(8)
    for (int64_t n = 0; n < kCount; ++n) {
      const VF unit = broadcast_f16(blocks[n] + 208);
      const auto* scales = reinterpret_cast<const int8_t*>(blocks[n] + 192);
      HWY_UNROLL(16)
      for (int64_t i = 0; i < 16; i += kLanes) {
        const auto wide = hn::PromoteTo(DI(), hn::LoadU(hn::Rebind<int8_t, DF>(), scales + i));
        hn::Store(hn::Mul(unit, hn::ConvertTo(DF(), wide)), DF(), state.scale[n] + i);
      }
    }
    keep_in_memory(state);
  }

  template <typename State>
  static HWY_INLINE void decode(const uint8_t* HWY_RESTRICT block, const State& state, int64_t n,
                                int64_t j, VF* w) {
    const uint8_t* HWY_RESTRICT low = block + j * 64;
    const uint8_t* HWY_RESTRICT pairs = block + 128 + j * 32;
    alignas(64) int8_t codes[kChunk];
    const hn::CappedTag<uint8_t, 32> d8;
    const hn::RebindToSigned<decltype(d8)> di8;
    const auto fifteen = hn::Set(d8, 15), pair = hn::Set(d8, 0x30), middle = hn::Set(d8, 32);
    constexpr auto kStep = static_cast<int64_t>(HWY_MIN(32, HWY_LANES(uint8_t)));
    HWY_UNROLL(2)
    for (int64_t i = 0; i < 32; i += kStep) {
      const auto bytes0 = hn::LoadU(d8, low + i), bytes1 = hn::LoadU(d8, low + 32 + i);
      const auto high = hn::LoadU(d8, pairs + i);
      const decltype(high) q[4] = {
          hn::Or(hn::And(bytes0, fifteen), hn::And(hn::ShiftLeft<4>(high), pair)),
          hn::Or(hn::And(bytes1, fifteen), hn::And(hn::ShiftLeft<2>(high), pair)),
          hn::Or(hn::ShiftRight<4>(bytes0), hn::And(high, pair)),
          hn::Or(hn::ShiftRight<4>(bytes1), hn::And(hn::ShiftRight<2>(high), pair)),
      };
      HWY_UNROLL(4)
      for (int64_t quarter = 0; quarter < 4; ++quarter) {
        hn::Store(hn::BitCast(di8, hn::Sub(q[quarter], middle)), di8, codes + quarter * 32 + i);
      }
    }
    HWY_UNROLL(32)
    for (int64_t i = 0; i < kChunk / kLanes; ++i) {
      const VF scale = hn::Set(DF(), state.scale[n][j * 8 + i * kLanes / 16]);
      const hn::Rebind<int8_t, DF> dq;
      const auto wide = hn::PromoteTo(DI(), hn::LoadU(dq, codes + i * kLanes));
      w[i] = hn::Mul(scale, hn::ConvertTo(DF(), wide));
    }
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();
#endif
