#include "mneme/kernels/select.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "mneme/core/error.h"
#include "mneme/kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "mneme/kernels/select.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using DU = hn::RebindToUnsigned<DF>;
using DI = hn::RebindToSigned<DF>;
inline constexpr int64_t kLanes = HWY_LANES(float);

// Stores the chosen lanes of v at `to`, at most `room` of them fit there. A compressed vector is
// stored whole where it fits: storing under a mask is many times slower on some machines.
template <class D, class V, class M>
HWY_INLINE int64_t store_chosen(D d, V v, M chosen, hn::TFromD<D>* to, int64_t room) {
  const auto count = static_cast<int64_t>(hn::CountTrue(d, chosen));
  const V front = hn::Compress(v, chosen);
  if (room >= kLanes) {
    hn::StoreU(front, d, to);
  } else {
    alignas(64) hn::TFromD<D> lanes[kLanes];
    hn::Store(front, d, lanes);
    memcpy(to, lanes, static_cast<size_t>(std::min(count, room)) * sizeof(lanes[0]));
  }
  return count;
}

// keys[i] orders as scores[i] does, as unsigned integers; false when a score is NaN. `keys` has
// room for whole vectors.
bool SelectKeys(const float* HWY_RESTRICT scores, int64_t n, uint32_t* HWY_RESTRICT keys) {
  const DF d;
  const DU du;
  const DI di;
  auto nan = hn::Zero(du);
  const auto take = [&](const float* from, int64_t i) HWY_ATTR {
    const auto x = hn::Add(hn::LoadU(d, from), hn::Zero(d));  // -0 becomes 0
    const auto bits = hn::BitCast(du, x);
    const auto sign = hn::BitCast(du, hn::ShiftRight<31>(hn::BitCast(di, x)));
    const auto flip = hn::Or(sign, hn::Set(du, 0x80000000u));
    nan = hn::Or(nan, hn::BitCast(du, hn::VecFromMask(d, hn::IsNaN(x))));
    hn::StoreU(hn::Xor(bits, flip), du, keys + i);
  };
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) take(scores + i, i);
  if (i < n) {
    alignas(64) float rest[kLanes] = {};
    memcpy(rest, scores + i, static_cast<size_t>(n - i) * sizeof(float));
    take(rest, i);
  }
  return hn::AllTrue(du, hn::Eq(nan, hn::Zero(du)));
}

// The keys whose bits from `shift` up equal `prefix`, in any order -> out (room for n and a
// vector); may be the same array.
int64_t SelectCandidates(const uint32_t* keys, int64_t n, int shift, uint32_t prefix,
                         uint32_t* out) {
  const DU du;
  const auto low = hn::Set(du, prefix << shift);
  const auto width = hn::Set(du, (1u << shift) - 1);
  int64_t count = 0;
  for (int64_t i = 0; i < n; i += kLanes) {
    const auto key = hn::LoadU(du, keys + i);
    auto inside = hn::Eq(hn::AndNot(width, key), low);
    if (i + kLanes > n) inside = hn::And(inside, hn::FirstN(du, static_cast<size_t>(n - i)));
    count += store_chosen(du, key, inside, out + count, kLanes);
  }
  return count;
}

// Ascending indices of keys above `pivot`, and of the first `equal` keys that equal it.
int64_t SelectIndices(const uint32_t* HWY_RESTRICT keys, int64_t n, uint32_t pivot, int64_t equal,
                      int32_t* HWY_RESTRICT indices, int64_t room) {
  const DU du;
  const DI di;
  const auto pivots = hn::Set(du, pivot);
  int64_t count = 0;
  for (int64_t i = 0; i < n; i += kLanes) {
    const auto key = hn::LoadU(du, keys + i);
    auto above = hn::Gt(key, pivots), same = hn::Eq(key, pivots);
    if (i + kLanes > n) {
      const auto valid = hn::FirstN(du, static_cast<size_t>(n - i));
      above = hn::And(above, valid);
      same = hn::And(same, valid);
    }
    const auto ties = static_cast<int64_t>(hn::CountTrue(du, same));
    if (ties > equal) {  // the last of them that count
      alignas(64) uint32_t lanes[kLanes];
      hn::Store(hn::VecFromMask(du, same), du, lanes);
      int64_t left = equal;
      for (uint32_t& lane : lanes) lane = lane != 0 && left-- > 0 ? ~0u : 0u;
      same = hn::MaskFromVec(hn::Load(du, lanes));
      equal = 0;
    } else {
      equal -= ties;
    }
    const auto chosen = hn::RebindMask(di, hn::Or(above, same));
    if (hn::AllFalse(di, chosen)) continue;
    count += store_chosen(di, hn::Iota(di, static_cast<int32_t>(i)), chosen, indices + count,
                          room - count);
  }
  return count;
}

// -1 when a score is NaN.
int64_t SelectAtLeast(const float* HWY_RESTRICT scores, int64_t n, float threshold,
                      int32_t* HWY_RESTRICT indices) {
  const DF d;
  const DI di;
  const auto least = hn::Set(d, threshold);
  auto nan = hn::Zero(d);
  int64_t count = 0;
  for (int64_t i = 0; i < n; i += kLanes) {
    hn::Vec<DF> x;
    auto valid = hn::FirstN(d, static_cast<size_t>(n - i));
    if (i + kLanes <= n) {
      x = hn::LoadU(d, scores + i);
    } else {
      alignas(64) float rest[kLanes] = {};
      memcpy(rest, scores + i, static_cast<size_t>(n - i) * sizeof(float));
      x = hn::Load(d, rest);
    }
    nan = hn::Or(nan, hn::VecFromMask(d, hn::IsNaN(x)));
    const auto chosen = hn::RebindMask(di, hn::And(hn::Ge(x, least), valid));
    if (hn::AllFalse(di, chosen)) continue;
    count +=
        store_chosen(di, hn::Iota(di, static_cast<int32_t>(i)), chosen, indices + count, n - count);
  }
  const DU du;
  return hn::AllTrue(du, hn::Eq(hn::BitCast(du, nan), hn::Zero(du))) ? count : -1;
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme {

HWY_EXPORT(SelectKeys);
HWY_EXPORT(SelectCandidates);
HWY_EXPORT(SelectIndices);
HWY_EXPORT(SelectAtLeast);

namespace {

constexpr int64_t kVector = 16;  // floats of the widest vector
constexpr int kDigitBits[] = {11, 11, 10};
constexpr int kBins = 1 << 11;

void check_size(const char* caller, std::span<const float> scores) {
  MNEME_CHECK(scores.size() <= static_cast<size_t>(std::numeric_limits<int32_t>::max()), caller,
              ": indices are 32 bits, got ", scores.size(), " scores");
}

[[noreturn]] void refuse_nan(const char* caller, std::span<const float> scores) {
  const auto at = std::ranges::find_if(scores, [](float x) { return std::isnan(x); });
  fail(caller, ": score ", at - scores.begin(), " is NaN, which has no rank");
}

void rank(std::span<const float> scores, std::span<int32_t> indices) {
  std::ranges::sort(indices, [&](int32_t a, int32_t b) {
    const float left = scores[static_cast<size_t>(a)], right = scores[static_cast<size_t>(b)];
    return left != right ? left > right : a < b;
  });
}

// The bin in which the largest `*wanted` keys end, counted from the top; *wanted becomes the number
// wanted of that bin.
uint32_t ending_bin(const uint32_t* keys, int64_t n, int shift, int bits, int64_t* wanted) {
  // Two histograms: neighbouring scores often share a bin, and would wait for each other.
  uint32_t bins[2][kBins] = {};
  const uint32_t mask = (1u << bits) - 1;
  int64_t i = 0;
  for (; i + 2 <= n; i += 2) {
    ++bins[0][keys[i] >> shift & mask];
    ++bins[1][keys[i + 1] >> shift & mask];
  }
  if (i < n) ++bins[0][keys[i] >> shift & mask];
  uint32_t bin = mask;
  for (;; --bin) {
    const int64_t here = int64_t{bins[0][bin]} + bins[1][bin];
    if (*wanted <= here) return bin;
    *wanted -= here;
  }
}

}  // namespace

int64_t select_top_k(std::span<const float> scores, int64_t k, SelectOrder order,
                     std::span<int32_t> indices, SelectScratch& scratch) {
  MNEME_CHECK(k >= 0, "select_top_k: k must not be negative, got ", k);
  check_size("select_top_k", scores);
  const auto n = static_cast<int64_t>(scores.size());
  const int64_t count = std::min(k, n);
  MNEME_CHECK(static_cast<int64_t>(indices.size()) >= count, "select_top_k: room for ",
              indices.size(), " indices, ", count, " are selected");
  const auto room = static_cast<size_t>(n + kVector);
  if (scratch.keys.size() < room) scratch.keys.resize(room);
  if (scratch.candidates.size() < room) scratch.candidates.resize(room);
  const uint32_t* keys = scratch.keys.data();
  if (!HWY_DYNAMIC_DISPATCH(SelectKeys)(scores.data(), n, scratch.keys.data()))
    refuse_nan("select_top_k", scores);
  if (count == 0) return 0;
  const std::span<int32_t> chosen = indices.first(static_cast<size_t>(count));
  if (count == n) {
    std::iota(chosen.begin(), chosen.end(), 0);
  } else {
    // Digit by digit from the top, among the keys that share the digits found so far.
    const uint32_t* left = keys;
    int64_t left_count = n, wanted = count;
    uint32_t prefix = 0;
    int shift = 32;
    for (const int bits : kDigitBits) {
      shift -= bits;
      prefix = prefix << bits | ending_bin(left, left_count, shift, bits, &wanted);
      if (shift == 0) break;
      left_count = HWY_DYNAMIC_DISPATCH(SelectCandidates)(left, left_count, shift, prefix,
                                                          scratch.candidates.data());
      left = scratch.candidates.data();
    }
    const int64_t stored =
        HWY_DYNAMIC_DISPATCH(SelectIndices)(keys, n, prefix, wanted, chosen.data(), count);
    MNEME_ASSERT(stored == count);
  }
  if (order == SelectOrder::kRank) rank(scores, chosen);
  return count;
}

int64_t select_weakest(std::span<const float> scores) {
  MNEME_CHECK(!scores.empty(), "select_weakest: expected at least one score, got none");
  // Four chains of comparisons, of every fourth score each.
  constexpr size_t kChains = 4;
  size_t weakest[kChains] = {};
  float lowest[kChains];
  bool ordered = true;
  std::fill_n(lowest, kChains, std::numeric_limits<float>::infinity());
  for (size_t i = 0; i < scores.size(); ++i) {
    const size_t chain = i % kChains;
    const bool lower = scores[i] <= lowest[chain];  // of equal ones the last
    lowest[chain] = lower ? scores[i] : lowest[chain];
    weakest[chain] = lower ? i : weakest[chain];
    ordered &= scores[i] == scores[i];
  }
  if (!ordered) refuse_nan("select_weakest", scores);
  size_t best = 0;
  for (size_t chain = 1; chain < std::min(kChains, scores.size()); ++chain) {
    const bool equal = lowest[chain] == lowest[best];
    if (lowest[chain] < lowest[best] || (equal && weakest[chain] > weakest[best])) best = chain;
  }
  return static_cast<int64_t>(weakest[best]);
}

int64_t select_at_least(std::span<const float> scores, float threshold, SelectOrder order,
                        std::span<int32_t> indices) {
  MNEME_CHECK(!std::isnan(threshold), "select_at_least: the threshold is NaN");
  check_size("select_at_least", scores);
  MNEME_CHECK(indices.size() >= scores.size(), "select_at_least: room for ", indices.size(),
              " indices, expected ", scores.size());
  const auto n = static_cast<int64_t>(scores.size());
  const int64_t count =
      HWY_DYNAMIC_DISPATCH(SelectAtLeast)(scores.data(), n, threshold, indices.data());
  if (count < 0) refuse_nan("select_at_least", scores);
  if (order == SelectOrder::kRank) rank(scores, indices.first(static_cast<size_t>(count)));
  return count;
}

}  // namespace mneme
#endif
