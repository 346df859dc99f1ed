// Decoders of weight blocks to vectors of float32, one struct a type, for the SIMD target of the
// including file. The layouts are in dequantize_naive.h, which is also their twin in the tests.
//
// A row is cut into blocks of kBlock elements and kBytes bytes. Decoder<type>::prepare reads what
// a whole block shares into State, ::decode writes chunk j of the block: the kChunk elements from
// j * kChunk on, in order, into w [kChunk / lanes]. Every decoder ends in one fused
// scale * q + offset whose product is exact in float32, so all users see the same bits.
//
// Include only after hwy/highway.h, as -inl files are.
#include <cstdint>

#include "mneme/core/dtype.h"

#if defined(MNEME_KERNELS_QUANT_BLOCKS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_KERNELS_QUANT_BLOCKS_INL_H_
#undef MNEME_KERNELS_QUANT_BLOCKS_INL_H_
#else
#define MNEME_KERNELS_QUANT_BLOCKS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using DU = hn::Rebind<uint32_t, DF>;
using DI = hn::Rebind<int32_t, DF>;
using VF = hn::Vec<DF>;
using VU = hn::Vec<DU>;
inline constexpr int64_t kLanes = HWY_LANES(float);
// Vectors that hold 16 elements: half of a block of 32.
inline constexpr int64_t kParts = kLanes >= 16 ? 1 : 16 / kLanes;

// The f16 at `bytes` in every lane.
HWY_INLINE VF broadcast_f16(const uint8_t* HWY_RESTRICT bytes) {
  const hn::Rebind<hwy::float16_t, DF> d16;
  const hn::Rebind<uint16_t, DF> du16;
  uint16_t bits;
  memcpy(&bits, bytes, sizeof bits);
  return hn::PromoteTo(DF(), hn::BitCast(d16, hn::Set(du16, bits)));
}

// Lanes of bytes, zero-extended.
HWY_INLINE VU load_bytes(const uint8_t* HWY_RESTRICT bytes) {
  return hn::PromoteTo(DU(), hn::LoadU(hn::Rebind<uint8_t, DF>(), bytes));
}

HWY_INLINE VF to_float(VU q) { return hn::ConvertTo(DF(), hn::BitCast(DI(), q)); }

// scale * q + offset for q in 0..15, as a table of 16 where a vector holds one.
class Nibbles {
 public:
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  HWY_INLINE Nibbles(VF scale, VF offset)
      : table_(hn::MulAdd(scale, hn::Iota(DF(), 0.0f), offset)) {}
  // The permutation reads the low four bits of an index alone, so bytes need no mask.
  HWY_INLINE VF low(VU bytes) const { return VF{_mm512_permutexvar_ps(bytes.raw, table_.raw)}; }
  HWY_INLINE VF high(VU bytes) const { return low(hn::ShiftRight<4>(bytes)); }

 private:
  VF table_;
#else
  HWY_INLINE Nibbles(VF scale, VF offset) : scale_(scale), offset_(offset) {}
  HWY_INLINE VF low(VU bytes) const { return value(hn::And(bytes, hn::Set(DU(), 15))); }
  HWY_INLINE VF high(VU bytes) const { return value(hn::ShiftRight<4>(bytes)); }

 private:
  HWY_INLINE VF value(VU q) const { return hn::MulAdd(scale_, to_float(q), offset_); }
  VF scale_, offset_;
#endif
};

// Bit i of 32, a vector of lanes at a time.
alignas(64) inline constexpr uint32_t kBit[32] = {
    1u << 0,  1u << 1,  1u << 2,  1u << 3,  1u << 4,  1u << 5,  1u << 6,  1u << 7,
    1u << 8,  1u << 9,  1u << 10, 1u << 11, 1u << 12, 1u << 13, 1u << 14, 1u << 15,
    1u << 16, 1u << 17, 1u << 18, 1u << 19, 1u << 20, 1u << 21, 1u << 22, 1u << 23,
    1u << 24, 1u << 25, 1u << 26, 1u << 27, 1u << 28, 1u << 29, 1u << 30, 1u << 31};

// 16 where bit first + lane of `bits` is set, else 0.
HWY_INLINE VU fifth_bits(VU bits, int64_t first) {
  const auto set = hn::TestBit(bits, hn::Load(DU(), kBit + first));
  return hn::IfThenElseZero(hn::RebindMask(DU(), set), hn::Set(DU(), 16));
}

// Types without blocks are cut into chunks of 32 elements.
template <DType kType>
struct Decoder;

struct FloatLayout {
  static constexpr int64_t kBlock = 32, kChunk = 32;
  struct State {};
  static HWY_INLINE void prepare(const uint8_t*, State&) {}
};

template <>
struct Decoder<DType::kF32> : FloatLayout {
  static constexpr int64_t kBytes = 128;
  static HWY_INLINE void decode(const uint8_t* HWY_RESTRICT block, const State&, int64_t, VF* w) {
    HWY_UNROLL(32)
    for (int64_t i = 0; i < kChunk / kLanes; ++i) {
      w[i] = hn::LoadU(DF(), reinterpret_cast<const float*>(block) + i * kLanes);
    }
  }
};

template <>
struct Decoder<DType::kF16> : FloatLayout {
  static constexpr int64_t kBytes = 64;
  static HWY_INLINE void decode(const uint8_t* HWY_RESTRICT block, const State&, int64_t, VF* w) {
    const hn::Rebind<hwy::float16_t, DF> d16;
    const auto* values = reinterpret_cast<const hwy::float16_t*>(block);
    HWY_UNROLL(32)
    for (int64_t i = 0; i < kChunk / kLanes; ++i) {
      w[i] = hn::PromoteTo(DF(), hn::LoadU(d16, values + i * kLanes));
    }
  }
};

template <>
struct Decoder<DType::kBF16> : FloatLayout {
  static constexpr int64_t kBytes = 64;
  static HWY_INLINE void decode(const uint8_t* HWY_RESTRICT block, const State&, int64_t, VF* w) {
    const hn::Rebind<hwy::bfloat16_t, DF> d16;
    const auto* values = reinterpret_cast<const hwy::bfloat16_t*>(block);
    HWY_UNROLL(32)
    for (int64_t i = 0; i < kChunk / kLanes; ++i) {
      w[i] = hn::PromoteTo(DF(), hn::LoadU(d16, values + i * kLanes));
    }
  }
};

struct SmallLayout {
  static constexpr int64_t kBlock = 32, kChunk = 32;
  struct State {};
  static HWY_INLINE void prepare(const uint8_t*, State&) {}

  static HWY_INLINE void nibbles(const uint8_t* HWY_RESTRICT q, const Nibbles& values, VF* w) {
    HWY_UNROLL(16)
    for (int64_t i = 0; i < kParts; ++i) {
      const VU bytes = load_bytes(q + i * kLanes);
      w[i] = values.low(bytes);
      w[kParts + i] = values.high(bytes);
    }
  }

  static HWY_INLINE void five_bits(const uint8_t* HWY_RESTRICT high, const uint8_t* HWY_RESTRICT q,
                                   VF scale, VF offset, VF* w) {
    uint32_t word;
    memcpy(&word, high, sizeof word);
    const VU bits = hn::Set(DU(), word);
    HWY_UNROLL(16)
    for (int64_t i = 0; i < kParts; ++i) {
      const VU bytes = load_bytes(q + i * kLanes);
      const VU low = hn::Or(hn::And(bytes, hn::Set(DU(), 15)), fifth_bits(bits, i * kLanes));
      const VU top = hn::Or(hn::ShiftRight<4>(bytes), fifth_bits(bits, 16 + i * kLanes));
      w[i] = hn::MulAdd(scale, to_float(low), offset);
      w[kParts + i] = hn::MulAdd(scale, to_float(top), offset);
    }
  }
};

template <>
struct Decoder<DType::kQ8_0> : SmallLayout {
  static constexpr int64_t kBytes = 34;
  static HWY_INLINE void decode(const uint8_t* HWY_RESTRICT block, const State&, int64_t, VF* w) {
    const VF scale = broadcast_f16(block);
    const auto* q = reinterpret_cast<const int8_t*>(block + 2);
    HWY_UNROLL(32)
    for (int64_t i = 0; i < kChunk / kLanes; ++i) {
      const auto wide = hn::PromoteTo(DI(), hn::LoadU(hn::Rebind<int8_t, DF>(), q + i * kLanes));
      w[i] = hn::Mul(scale, hn::ConvertTo(DF(), wide));
    }
  }
};

template <>
struct Decoder<DType::kQ4_0> : SmallLayout {
  static constexpr int64_t kBytes = 18;
  static HWY_INLINE void decode(const uint8_t* HWY_RESTRICT block, const State&, int64_t, VF* w) {
    const VF scale = broadcast_f16(block);
    nibbles(block + 2, Nibbles(scale, hn::Mul(scale, hn::Set(DF(), -8.0f))), w);
  }
};

template <>
struct Decoder<DType::kQ4_1> : SmallLayout {
  static constexpr int64_t kBytes = 20;
  static HWY_INLINE void decode(const uint8_t* HWY_RESTRICT block, const State&, int64_t, VF* w) {
    nibbles(block + 4, Nibbles(broadcast_f16(block), broadcast_f16(block + 2)), w);
  }
};

template <>
struct Decoder<DType::kQ5_0> : SmallLayout {
  static constexpr int64_t kBytes = 22;
  static HWY_INLINE void decode(const uint8_t* HWY_RESTRICT block, const State&, int64_t, VF* w) {
    const VF scale = broadcast_f16(block);
    five_bits(block + 2, block + 6, scale, hn::Mul(scale, hn::Set(DF(), -16.0f)), w);
  }
};

template <>
struct Decoder<DType::kQ5_1> : SmallLayout {
  static constexpr int64_t kBytes = 24;
  static HWY_INLINE void decode(const uint8_t* HWY_RESTRICT block, const State&, int64_t, VF* w) {
    five_bits(block + 4, block + 8, broadcast_f16(block), broadcast_f16(block + 2), w);
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();
#endif
