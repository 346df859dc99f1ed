// What happens to a block of scores [keys, kFlashRows], rows of the tile in the lanes, between the
// two products: softcap, ALiBi, mask, dropout. Per SIMD target. Tests: flash_attention_test.cc,
// flash_dropout_test.cc.
#include <cstdint>
#include <limits>

#include "mneme/kernels/flash_dropout.h"
#include "mneme/kernels/flash_plan.h"

#if defined(MNEME_KERNELS_FLASH_MASK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_KERNELS_FLASH_MASK_INL_H_
#undef MNEME_KERNELS_FLASH_MASK_INL_H_
#else
#define MNEME_KERNELS_FLASH_MASK_INL_H_
#endif

#include "mneme/kernels/exp2-inl.h"
#include "mneme/kernels/flash_product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {

using Words = hn::RebindToUnsigned<Floats>;
using WordVector = hn::Vec<Words>;

// A block of scores: keys first..first + keys of a sequence, `width` lanes (whole vectors).
struct ScoreBlock {
  float* scores = nullptr;  // [keys, kFlashRows]
  int64_t first = 0, keys = 0, width = 0;
};

// e^x. The difference of two scores is taken before the change of units: large scores would lose
// bits in it.
HWY_INLINE FloatVector exp_of(FloatVector x) {
  return exp2_of(hn::Mul(x, hn::Set(Floats(), 1.4426950408889634f)));
}

// score = cap * tanh(score)
HWY_INLINE void cap_scores(const ScoreBlock& block, float cap) {
  const Floats d;
  const FloatVector limit = hn::Set(d, cap);
  for (int64_t j = 0; j < block.keys; ++j) {
    float* row = block.scores + j * kFlashRows;
    for (int64_t v = 0; v < block.width; v += kLanes) {
      hn::StoreU(hn::Mul(limit, tanh_of(hn::LoadU(d, row + v))), d, row + v);
    }
  }
}

// score += slope * |position - j|, the slopes negated.
HWY_INLINE void add_alibi(const ScoreBlock& block, const RowLanes& lanes) {
  const Floats d;
  for (int64_t v = 0; v < block.width; v += kLanes) {
    const FloatVector slope = hn::Load(d, lanes.slope + v);
    const FloatVector position = hn::Load(d, lanes.position + v);
    for (int64_t j = 0; j < block.keys; ++j) {
      float* at = block.scores + j * kFlashRows + v;
      const FloatVector key = hn::Set(d, static_cast<float>(block.first + j));
      const FloatVector distance = hn::Abs(hn::Sub(position, key));
      hn::StoreU(hn::MulAdd(slope, distance, hn::LoadU(d, at)), d, at);
    }
  }
}

// score = -infinity outside low..high.
HWY_INLINE void mask_scores(const ScoreBlock& block, const RowLanes& lanes) {
  const Floats d;
  const hn::RebindToSigned<Floats> di;
  const FloatVector nothing = hn::Set(d, -std::numeric_limits<float>::infinity());
  for (int64_t v = 0; v < block.width; v += kLanes) {
    const auto low = hn::Load(di, lanes.low + v), high = hn::Load(di, lanes.high + v);
    for (int64_t j = 0; j < block.keys; ++j) {
      float* at = block.scores + j * kFlashRows + v;
      const auto key = hn::Set(di, static_cast<int32_t>(block.first + j));
      const auto hidden = hn::Or(hn::Gt(low, key), hn::Gt(key, high));
      hn::StoreU(hn::IfThenElse(hn::RebindMask(d, hidden), nothing, hn::LoadU(d, at)), d, at);
    }
  }
}

// The 64-bit products of `x` with a constant, as high and low words.
HWY_INLINE void multiply_wide(WordVector x, uint32_t constant, WordVector& high, WordVector& low) {
  const Words du;
#if HWY_TARGET == HWY_SCALAR
  const uint64_t all = uint64_t{hn::GetLane(x)} * constant;
  high = hn::Set(du, static_cast<uint32_t>(all >> 32));
  low = hn::Set(du, static_cast<uint32_t>(all));
#else
  const hn::RepartitionToWide<Words> d64;
  const auto factor = hn::Set(du, constant);
  const auto even = hn::MulEven(x, factor);
  const auto odd = hn::MulEven(hn::BitCast(du, hn::ShiftRight<32>(hn::BitCast(d64, x))), factor);
  high = hn::OddEven(hn::BitCast(du, odd), hn::BitCast(du, hn::ShiftRight<32>(even)));
  low = hn::OddEven(hn::BitCast(du, hn::ShiftLeft<32>(odd)), hn::BitCast(du, even));
#endif
}

// philox() of flash_dropout.h for the counters of each lane.
HWY_INLINE void philox_lanes(WordVector (&counter)[4], uint64_t seed) {
  const Words du;
  auto key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    WordVector high0, low0, high1, low1;
    multiply_wide(counter[0], kPhiloxM0, high0, low0);
    multiply_wide(counter[2], kPhiloxM1, high1, low1);
    counter[0] = hn::Xor(high1, hn::Xor(counter[1], hn::Set(du, key0)));
    counter[1] = low1;
    counter[2] = hn::Xor(high0, hn::Xor(counter[3], hn::Set(du, key1)));
    counter[3] = low0;
    key0 += kPhiloxW0;
    key1 += kPhiloxW1;
  }
}

// Calls body(at, keep) for every vector of the block, `at` its place from block.scores, keep = the
// mask of the weights that survive. block.first is a multiple of kFlashKeyStep.
template <class Body>
HWY_INLINE void for_each_kept(const ScoreBlock& block, const RowLanes& lanes, const FlashPlan& plan,
                              Body&& body) {
  const Words du;
  const WordVector least = hn::Set(du, plan.keep_from);
  for (int64_t v = 0; v < block.width; v += kLanes) {
    for (int64_t j = 0; j < block.keys; j += kFlashKeyStep) {
      WordVector words[4] = {hn::Set(du, static_cast<uint32_t>((block.first + j) / kFlashKeyStep)),
                             hn::Load(du, lanes.query + v), hn::Load(du, lanes.row + v),
                             hn::Set(du, plan.config.dropout_offset)};
      philox_lanes(words, plan.config.dropout_seed);
      for (int64_t i = 0; i < kFlashKeyStep && j + i < block.keys; ++i) {
        // Unsigned comparison, which not every target has: the larger of both is the word itself.
        const auto keep = hn::Eq(hn::Max(words[i], least), words[i]);
        body((j + i) * kFlashRows + v, hn::RebindMask(Floats(), keep));
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();
#endif
