#include "mneme/kernels/code_scores.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "mneme/kernels/code_scores.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_SCALAR
template <int kBits>
HWY_INLINE int32_t dot_group(const uint8_t* HWY_RESTRICT codes, const int8_t* HWY_RESTRICT query,
                             int64_t bytes) {
  int32_t sum = 0;
  for (int64_t i = 0; i < bytes; ++i) {
    if constexpr (kBits == 8) {
      sum += codes[i] * query[i];
    } else {
      sum += (codes[i] & 15) * query[i] + (codes[i] >> 4) * query[bytes + i];
    }
  }
  return sum;
}
#else
// Sixteen bytes at a time on every target: a group is often no larger than a wide vector, and four
// 32-bit sums are added up quickly.
using Bytes = hn::Full128<uint8_t>;
using Codes = hn::Full128<int8_t>;
using Sums = hn::Full128<int32_t>;
inline constexpr int64_t kStep = 16;

// sum + products of unsigned and signed bytes, in four lanes.
HWY_INLINE hn::Vec<Sums> dot_bytes(hn::Vec<Sums> sum, hn::Vec<Bytes> codes, hn::Vec<Codes> query) {
#if HWY_TARGET <= HWY_AVX3_DL
  return hn::Vec<Sums>{_mm_dpbusd_epi32(sum.raw, codes.raw, query.raw)};
#else
  const hn::Full128<int16_t> d16;
  auto odd = hn::Zero(Sums());
  sum = hn::ReorderWidenMulAccumulate(Sums(), hn::PromoteTo(d16, hn::LowerHalf(codes)),
                                      hn::PromoteTo(d16, hn::LowerHalf(query)), sum, odd);
  sum = hn::ReorderWidenMulAccumulate(
      Sums(), hn::PromoteTo(d16, hn::UpperHalf(hn::Half<Bytes>(), codes)),
      hn::PromoteTo(d16, hn::UpperHalf(hn::Half<Codes>(), query)), sum, odd);
  return hn::Add(sum, odd);
#endif
}

// The first `n` <= 16 bytes, zeros behind them.
template <class D, typename T>
HWY_INLINE hn::Vec<D> load_bytes(D d, const T* from, int64_t n) {
  if (n >= kStep) return hn::LoadU(d, from);
  alignas(16) T padded[kStep] = {};
  memcpy(padded, from, static_cast<size_t>(n));
  return hn::Load(d, padded);
}

template <int kBits>
HWY_INLINE int32_t dot_group(const uint8_t* HWY_RESTRICT codes, const int8_t* HWY_RESTRICT query,
                             int64_t bytes) {
  auto sum = hn::Zero(Sums());
  for (int64_t i = 0; i < bytes; i += kStep) {
    const auto packed = load_bytes(Bytes(), codes + i, bytes - i);
    const auto first = load_bytes(Codes(), query + i, bytes - i);
    if constexpr (kBits == 8) {
      sum = dot_bytes(sum, packed, first);
    } else {
      const auto nibble = hn::Set(Bytes(), uint8_t{15});
      const hn::Repartition<uint16_t, Bytes> d16;
      const auto high = hn::BitCast(Bytes(), hn::ShiftRight<4>(hn::BitCast(d16, packed)));
      const auto second = load_bytes(Codes(), query + bytes + i, bytes - i);
      sum = dot_bytes(sum, hn::And(packed, nibble), first);
      sum = dot_bytes(sum, hn::And(high, nibble), second);
    }
  }
  return hn::GetLane(hn::SumOfLanes(Sums(), sum));
}
#endif

template <int kBits>
HWY_INLINE void score(const CodeRows& rows, const CodeQuery& query, int64_t begin, int64_t end,
                      float* scores) {
  const int64_t groups = rows.dim / rows.group, bytes = rows.group * kBits / 8;
  const auto* words = reinterpret_cast<const uint8_t*>(rows.words);
  for (int64_t r = begin; r < end; ++r) {
    const uint8_t* codes = words + r * groups * bytes;
    float score = 0;
    for (int64_t g = 0; g < groups; ++g) {
      const auto products = static_cast<float>(
          dot_group<kBits>(codes + g * bytes, query.codes() + g * rows.group, bytes));
      const int64_t at = r * groups + g;
      score += query.units()[g] * (rows.scales[at] * products + rows.biases[at] * query.sums()[g]);
    }
    scores[r] = score;
  }
}

void ScoreRows(const CodeRows& rows, const CodeQuery& query, int64_t begin, int64_t end,
               float* scores) {
  if (rows.bits == 8) {
    score<8>(rows, query, begin, end, scores);
  } else {
    score<4>(rows, query, begin, end, scores);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme {

HWY_EXPORT(ScoreRows);

void CodeQuery::set(const float* query, int64_t dim, int bits, int64_t group) {
  MNEME_CHECK(bits == 8 || bits == 4, "code scores: expected codes of 8 or 4 bits, got ", bits);
  MNEME_CHECK(group > 0 && group <= 65536 && group % (32 / bits) == 0,
              "code scores: expected a group of at most 65536 that is a multiple of ", 32 / bits,
              ", got ", group);
  MNEME_CHECK(dim > 0 && dim % group == 0,
              "code scores: expected a dimension that is a multiple of the group ", group, ", got ",
              dim);
  dim_ = dim;
  bits_ = bits;
  group_ = group;
  codes_.resize(static_cast<size_t>(dim));
  units_.resize(static_cast<size_t>(dim / group));
  sums_.resize(units_.size());
  for (int64_t g = 0; g < dim / group; ++g) {
    const float* x = query + g * group;
    float largest = 0;
    for (int64_t i = 0; i < group; ++i) {
      MNEME_CHECK(std::isfinite(x[i]), "code scores: expected a finite query, got ", x[i],
                  " at dimension ", g * group + i);
      largest = std::max(largest, std::abs(x[i]));
    }
    const float unit = largest / 127;
    // A group of zeros, or of values too small for a unit, scores 0.
    const float inverse = unit > 0 ? 127 / largest : 0;
    int8_t* codes = codes_.data() + g * group;
    int32_t sum = 0;
    for (int64_t i = 0; i < group; ++i) {
      const auto code =
          static_cast<int8_t>(std::nearbyint(std::clamp(x[i] * inverse, -127.0f, 127.0f)));
      codes[bits == 8 ? i : i / 2 + i % 2 * group / 2] = code;
      sum += code;
    }
    units_[static_cast<size_t>(g)] = unit;
    sums_[static_cast<size_t>(g)] = static_cast<float>(sum);
  }
}

void score_rows(const CodeRows& rows, const CodeQuery& query, float* scores, ThreadPool& pool) {
  MNEME_CHECK(rows.rows >= 0, "score_rows: rows must not be negative, got ", rows.rows);
  MNEME_CHECK(rows.dim == query.dim() && rows.bits == query.bits() && rows.group == query.group(),
              "score_rows: rows of ", rows.dim, " codes of ", rows.bits, " bits in groups of ",
              rows.group, ", but the query was set for ", query.dim(), ", ", query.bits(), " and ",
              query.group());
  // A task reads about 32 KiB: handing out less costs more than it saves.
  const int64_t per_task = std::max<int64_t>(1, (int64_t{1} << 18) / (rows.dim * rows.bits));
  pool.run(ceil_div(rows.rows, per_task), [&](int64_t task, int) {
    const int64_t begin = task * per_task;
    HWY_DYNAMIC_DISPATCH(ScoreRows)
    (rows, query, begin, std::min(begin + per_task, rows.rows), scores);
  });
}

}  // namespace mneme
#endif
