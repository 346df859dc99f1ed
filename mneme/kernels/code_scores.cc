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
#if HWY_TARGET <= HWY_AVX2
// Thirty-two bytes at a time: what a group of 64 4-bit codes fills.
inline constexpr int64_t kStep = 32;
using Bytes = hn::Full256<uint8_t>;
using Codes = hn::Full256<int8_t>;
using Sums = hn::Full256<int32_t>;

// sum + products of unsigned and signed bytes. Pairs of products are added in 16 bits, where 127 *
// 127 twice still fits: the upper bit of 8-bit codes goes on its own.
template <int kBits>
HWY_INLINE hn::Vec<Sums> dot_bytes(hn::Vec<Sums> sum, hn::Vec<Bytes> codes, hn::Vec<Codes> query) {
  const __m256i ones = _mm256_set1_epi16(1);
  if constexpr (kBits == 4) {
    const __m256i pairs = _mm256_maddubs_epi16(codes.raw, query.raw);
    return hn::Add(sum, hn::Vec<Sums>{_mm256_madd_epi16(pairs, ones)});
  } else {
    const __m256i lower = _mm256_and_si256(codes.raw, _mm256_set1_epi8(127));
    const __m256i upper = _mm256_and_si256(_mm256_srli_epi16(codes.raw, 7), _mm256_set1_epi8(1));
    const __m256i low = _mm256_maddubs_epi16(lower, query.raw);
    const __m256i high = _mm256_maddubs_epi16(upper, query.raw);
    sum = hn::Add(sum, hn::Vec<Sums>{_mm256_madd_epi16(low, ones)});
    return hn::Add(sum, hn::Vec<Sums>{_mm256_madd_epi16(high, _mm256_set1_epi16(128))});
  }
}
#else
// Sixteen bytes at a time.
using Bytes = hn::Full128<uint8_t>;
using Codes = hn::Full128<int8_t>;
using Sums = hn::Full128<int32_t>;
inline constexpr int64_t kStep = 16;

// sum + products of unsigned and signed bytes, in four lanes.
template <int kBits>
HWY_INLINE hn::Vec<Sums> dot_bytes(hn::Vec<Sums> sum, hn::Vec<Bytes> codes, hn::Vec<Codes> query) {
  const hn::Full128<int16_t> d16;
  auto odd = hn::Zero(Sums());
  sum = hn::ReorderWidenMulAccumulate(Sums(), hn::PromoteTo(d16, hn::LowerHalf(codes)),
                                      hn::PromoteTo(d16, hn::LowerHalf(query)), sum, odd);
  sum = hn::ReorderWidenMulAccumulate(
      Sums(), hn::PromoteTo(d16, hn::UpperHalf(hn::Half<Bytes>(), codes)),
      hn::PromoteTo(d16, hn::UpperHalf(hn::Half<Codes>(), query)), sum, odd);
  return hn::Add(sum, odd);
}
#endif

// The first `n` bytes, zeros behind them.
template <class D, typename T>
HWY_INLINE hn::Vec<D> load_bytes(D d, const T* from, int64_t n) {
  if (n >= kStep) return hn::LoadU(d, from);
  alignas(32) T padded[kStep] = {};
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
      sum = dot_bytes<kBits>(sum, packed, first);
    } else {
      const auto nibble = hn::Set(Bytes(), uint8_t{15});
      const hn::Repartition<uint16_t, Bytes> d16;
      const auto high = hn::BitCast(Bytes(), hn::ShiftRight<4>(hn::BitCast(d16, packed)));
      const auto second = load_bytes(Codes(), query + bytes + i, bytes - i);
      sum = dot_bytes<kBits>(sum, hn::And(packed, nibble), first);
      sum = dot_bytes<kBits>(sum, hn::And(high, nibble), second);
    }
  }
  return hn::GetLane(hn::SumOfLanes(Sums(), sum));
}
#endif

// kBytes: those of a group where they are known, else 0.
template <int kBits, int64_t kBytes>
HWY_INLINE void score(const CodeRows& rows, const CodeQuery& query, int64_t begin, int64_t end,
                      float* HWY_RESTRICT scores) {
  const int64_t bytes = kBytes != 0 ? kBytes : rows.group * kBits / 8;
  const int64_t groups = rows.dim / rows.group, group = bytes * 8 / kBits;
  const auto* HWY_RESTRICT codes = reinterpret_cast<const uint8_t*>(rows.words);
  const float* HWY_RESTRICT scales = rows.scales;
  const float* HWY_RESTRICT biases = rows.biases;
  const int8_t* HWY_RESTRICT query_codes = query.codes();
  const float* HWY_RESTRICT units = query.units();
  const float* HWY_RESTRICT sums = query.sums();
  for (int64_t r = begin; r < end; ++r) {
    float score = 0;
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t at = r * groups + g;
      const auto products =
          static_cast<float>(dot_group<kBits>(codes + at * bytes, query_codes + g * group, bytes));
      score += units[g] * (scales[at] * products + biases[at] * sums[g]);
    }
    scores[r] = score;
  }
}

template <int kBits>
HWY_INLINE void score_groups(const CodeRows& rows, const CodeQuery& query, int64_t begin,
                             int64_t end, float* scores) {
  switch (rows.group * kBits / 8) {
    case 32:
      return score<kBits, 32>(rows, query, begin, end, scores);
    case 64:
      return score<kBits, 64>(rows, query, begin, end, scores);
    default:
      return score<kBits, 0>(rows, query, begin, end, scores);
  }
}

void ScoreRows(const CodeRows& rows, const CodeQuery& query, int64_t begin, int64_t end,
               float* scores) {
  if (rows.bits == 8) {
    score_groups<8>(rows, query, begin, end, scores);
  } else {
    score_groups<4>(rows, query, begin, end, scores);
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
