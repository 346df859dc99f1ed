// Decoders of weight blocks to vectors of float32, one struct a type, for the SIMD target of the
// including file. The layouts are in dequantize_naive.h, which is also their twin in the tests.
//
// A row is cut into blocks of kBlock elements and kBytes bytes. Decoder<type>::prepare reads the
// scales of kCount blocks at once into State<kCount>, ::decode writes chunk j of block n of these:
// the kChunk elements from j * kChunk on, in order, into w [kChunk / lanes]. kAhead is how many
// blocks' scales are best read before the first is decoded (measured on Zen 4). Every decoder ends
// in one scale * q + offset whose product is exact in float32, so all users see the same bits.
//
// Include only after hwy/highway.h, as -inl files are.
#include <cstdint>

#include "mneme/core/dtype.h"
#include "mneme/core/half.h"

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

// Has `object` read back from memory: a load that broadcasts a float costs no vector instruction,
// the shuffles by which a compiler would take it out of the register just stored cost several.
template <typename T>
HWY_INLINE void keep_in_memory(T& object) {
#if HWY_COMPILER_GCC || HWY_COMPILER_CLANG
  asm volatile("" : "+m"(object));
#endif
}

// Lanes of bytes, zero-extended.
HWY_INLINE VU load_bytes(const uint8_t* HWY_RESTRICT bytes) {
  return hn::PromoteTo(DU(), hn::LoadU(hn::Rebind<uint8_t, DF>(), bytes));
}

HWY_INLINE VF to_float(VU q) { return hn::ConvertTo(DF(), hn::BitCast(DI(), q)); }

// scale * q + offset for both nibbles of bytes, by a table of 16 where a vector holds one.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
class Nibbles {
 public:
  // Not fused, and kept so: an operand with one use is broadcast by the instruction that takes it
  // from memory, which is free, while a fused one would need an instruction for its second. The
  // product is exact, so the bits are those of MulAdd.
  HWY_INLINE Nibbles(VF scale, VF offset) : table_(hn::Mul(hn::Iota(DF(), 0.0f), scale)) {
    asm("" : "+v"(table_.raw));
    table_ = hn::Add(table_, offset);
  }
  // The permutation reads the low four bits of an index alone, so bytes need no mask.
  HWY_INLINE VF low(VU bytes) const { return VF{_mm512_permutexvar_ps(bytes.raw, table_.raw)}; }
  HWY_INLINE VF high(VU bytes) const { return low(hn::ShiftRight<4>(bytes)); }

 private:
  VF table_;
};
#else
class Nibbles {
 public:
  HWY_INLINE Nibbles(VF scale, VF offset) : scale_(scale), offset_(offset) {}
  HWY_INLINE VF low(VU bytes) const {
    return hn::MulAdd(scale_, to_float(hn::And(bytes, hn::Set(DU(), 15))), offset_);
  }
  HWY_INLINE VF high(VU bytes) const {
    return hn::MulAdd(scale_, to_float(hn::ShiftRight<4>(bytes)), offset_);
  }

 private:
  VF scale_, offset_;
};
#endif

// Bit i of 32, a vector of lanes at a time.
alignas(64) inline constexpr uint32_t kBit[32] = {
    1u << 0,  1u << 1,  1u << 2,  1u << 3,  1u << 4,  1u << 5,  1u << 6,  1u << 7,
    1u << 8,  1u << 9,  1u << 10, 1u << 11, 1u << 12, 1u << 13, 1u << 14, 1u << 15,
    1u << 16, 1u << 17, 1u << 18, 1u << 19, 1u << 20, 1u << 21, 1u << 22, 1u << 23,
    1u << 24, 1u << 25, 1u << 26, 1u << 27, 1u << 28, 1u << 29, 1u << 30, 1u << 31};

// q + 16 where bit first + lane of the 32 at `bits` is set.
HWY_INLINE VU add_fifth_bit(VU q, const uint8_t* HWY_RESTRICT bits, int64_t first) {
  const VU with_bit = hn::Or(q, hn::Set(DU(), 16));
  if constexpr (kLanes >= 8) {
    return hn::IfThenElse(hn::LoadMaskBits(DU(), bits + first / 8), with_bit, q);
  } else {
    uint32_t word;
    memcpy(&word, bits, sizeof word);
    return hn::IfThenElse(hn::TestBit(hn::Set(DU(), word), hn::Load(DU(), kBit + first)), with_bit,
                          q);
  }
}

// Types without blocks are cut into chunks of 32 elements.
template <DType kType>
struct Decoder;

struct FloatLayout {
  static constexpr int64_t kBlock = 32, kChunk = 32, kAhead = 1;
  template <int64_t kCount>
  struct State {};
  template <int64_t kCount>
  static HWY_INLINE void prepare(const uint8_t* const*, State<kCount>&) {}
};

template <>
struct Decoder<DType::kF32> : FloatLayout {
  static constexpr int64_t kBytes = 128;
  template <typename State>
  static HWY_INLINE void decode(const uint8_t* HWY_RESTRICT block, const State&, int64_t, int64_t,
                                VF* w) {
    HWY_UNROLL(32)
    for (int64_t i = 0; i < kChunk / kLanes; ++i) {
      w[i] = hn::LoadU(DF(), reinterpret_cast<const float*>(block) + i * kLanes);
    }
  }
};

template <>
struct Decoder<DType::kF16> : FloatLayout {
  static constexpr int64_t kBytes = 64;
  template <typename State>
  static HWY_INLINE void decode(const uint8_t* HWY_RESTRICT block, const State&, int64_t, int64_t,
                                VF* w) {
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
  template <typename State>
  static HWY_INLINE void decode(const uint8_t* HWY_RESTRICT block, const State&, int64_t, int64_t,
                                VF* w) {
    const hn::Rebind<hwy::bfloat16_t, DF> d16;
    const auto* values = reinterpret_cast<const hwy::bfloat16_t*>(block);
    HWY_UNROLL(32)
    for (int64_t i = 0; i < kChunk / kLanes; ++i) {
      w[i] = hn::PromoteTo(DF(), hn::LoadU(d16, values + i * kLanes));
    }
  }
};

// kFactor times the scale is what a type needs besides: the offset of those without a minimum, or a
// second copy (1), for an operand that is loaded for two instructions takes a third to broadcast.
template <int64_t kFactor>
struct SmallLayout {
  static constexpr int64_t kBlock = 32, kChunk = 32, kAhead = 16;

  template <int64_t kCount>
  struct State {
    alignas(64) float heads[2 * kCount];  // scale, minimum of each block
    float products[2 * kCount];           // kFactor times the above

    HWY_INLINE VF scale(int64_t n) const { return hn::Set(DF(), heads[2 * n]); }
    HWY_INLINE VF minimum(int64_t n) const { return hn::Set(DF(), heads[2 * n + 1]); }
    HWY_INLINE VF product(int64_t n) const { return hn::Set(DF(), products[2 * n]); }
  };

  template <int64_t kCount>
  static HWY_INLINE void prepare(const uint8_t* const* HWY_RESTRICT blocks, State<kCount>& state) {
    constexpr auto kTimes = static_cast<float>(kFactor);
    int64_t n = 0;
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
    HWY_UNROLL(2)
    for (; n + 4 <= kCount; n += 4) {
      int32_t pairs[4];
      HWY_UNROLL(4)
      for (int64_t i = 0; i < 4; ++i) memcpy(&pairs[i], blocks[n + i], sizeof(int32_t));
      const __m256 heads = _mm256_cvtph_ps(_mm_set_epi32(pairs[3], pairs[2], pairs[1], pairs[0]));
      _mm256_storeu_ps(state.heads + 2 * n, heads);
      _mm256_storeu_ps(state.products + 2 * n, _mm256_mul_ps(heads, _mm256_set1_ps(kTimes)));
    }
#endif
    for (; n < kCount; ++n) {
      uint16_t pair[2];
      memcpy(pair, blocks[n], sizeof pair);
      for (int64_t i = 0; i < 2; ++i) {
        const float head = f16_to_float(pair[i]);
        state.heads[2 * n + i] = head;
        state.products[2 * n + i] = head * kTimes;
      }
    }
    keep_in_memory(state);
  }

  static HWY_INLINE void four_bits(const uint8_t* HWY_RESTRICT q, VF scale, VF offset, VF* w) {
    const Nibbles nibbles(scale, offset);
    HWY_UNROLL(16)
    for (int64_t i = 0; i < kParts; ++i) {
      const VU bytes = load_bytes(q + i * kLanes);
      w[i] = nibbles.low(bytes);
      w[kParts + i] = nibbles.high(bytes);
    }
  }

  static HWY_INLINE void five_bits(const uint8_t* HWY_RESTRICT bits, const uint8_t* HWY_RESTRICT q,
                                   VF scale, VF offset, VF* w) {
    HWY_UNROLL(16)
    for (int64_t i = 0; i < kParts; ++i) {
      const VU bytes = load_bytes(q + i * kLanes);
      const VU low = add_fifth_bit(hn::And(bytes, hn::Set(DU(), 15)), bits, i * kLanes);
      const VU high = add_fifth_bit(hn::ShiftRight<4>(bytes), bits, 16 + i * kLanes);
      w[i] = hn::MulAdd(scale, to_float(low), offset);
      w[kParts + i] = hn::MulAdd(scale, to_float(high), offset);
    }
  }
};

template <>
struct Decoder<DType::kQ8_0> : SmallLayout<1> {
  static constexpr int64_t kBytes = 34, kAhead = 1;
  template <typename State>
  static HWY_INLINE void decode(const uint8_t* HWY_RESTRICT block, const State& state, int64_t n,
                                int64_t, VF* w) {
    const VF scales[2] = {state.scale(n), state.product(n)};
    const auto* q = reinterpret_cast<const int8_t*>(block + 2);
    HWY_UNROLL(32)
    for (int64_t i = 0; i < kChunk / kLanes; ++i) {
      const auto wide = hn::PromoteTo(DI(), hn::LoadU(hn::Rebind<int8_t, DF>(), q + i * kLanes));
      w[i] = hn::Mul(scales[i % 2], hn::ConvertTo(DF(), wide));
    }
  }
};

template <>
struct Decoder<DType::kQ4_0> : SmallLayout<-8> {
  static constexpr int64_t kBytes = 18;
  template <typename State>
  static HWY_INLINE void decode(const uint8_t* HWY_RESTRICT block, const State& state, int64_t n,
                                int64_t, VF* w) {
    four_bits(block + 2, state.scale(n), state.product(n), w);
  }
};

template <>
struct Decoder<DType::kQ4_1> : SmallLayout<1> {
  static constexpr int64_t kBytes = 20;
  template <typename State>
  static HWY_INLINE void decode(const uint8_t* HWY_RESTRICT block, const State& state, int64_t n,
                                int64_t, VF* w) {
    four_bits(block + 4, state.scale(n), state.minimum(n), w);
  }
};

template <>
struct Decoder<DType::kQ5_0> : SmallLayout<-16> {
  static constexpr int64_t kBytes = 22;
  template <typename State>
  static HWY_INLINE void decode(const uint8_t* HWY_RESTRICT block, const State& state, int64_t n,
                                int64_t, VF* w) {
    five_bits(block + 2, block + 6, state.scale(n), state.product(n), w);
  }
};

template <>
struct Decoder<DType::kQ5_1> : SmallLayout<1> {
  static constexpr int64_t kBytes = 24;
  template <typename State>
  static HWY_INLINE void decode(const uint8_t* HWY_RESTRICT block, const State& state, int64_t n,
                                int64_t, VF* w) {
    five_bits(block + 4, block + 8, state.scale(n), state.minimum(n), w);
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();
#endif
