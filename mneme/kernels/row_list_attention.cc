#include "mneme/kernels/row_list_attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/core/grown.h"
#include "mneme/core/half.h"
#include "mneme/kernels/row_convert.h"
#include "mneme/kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "mneme/kernels/row_list_attention.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "mneme/kernels/exp2-inl.h"
#include "mneme/kernels/largest_lane-inl.h"

// One split of the list for one KV head, shared by all SIMD targets.
#ifndef MNEME_KERNELS_ROW_LIST_SPLIT_
#define MNEME_KERNELS_ROW_LIST_SPLIT_
namespace mneme {
namespace {

constexpr int64_t kFewLanes = 16;  // floats of the widest vector used

struct ListSplit {
  const RowListAttention& config;
  std::span<const std::byte* const> tokens;
  int64_t head = 0;          // KV head
  const float* q = nullptr;  // [ratio, k_stride], scaled, zeros behind k_dim
  int64_t k_stride = 0;      // k_dim in whole vectors of kFewLanes
  float* scores = nullptr;   // [ratio, score_stride] from this split's first token on
  int64_t score_stride = 0;
  float* tops = nullptr;    // [ratio]
  float* sums = nullptr;    // [ratio]
  float* values = nullptr;  // [ratio, v_stride]
  int64_t v_stride = 0;
};

}  // namespace
}  // namespace mneme
#endif

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using ListFloats = HWY_CAPPED(float, 16);
using ListVector = hn::Vec<ListFloats>;
constexpr float kListLog2E = 1.4426950408889634f;

HWY_INLINE ListVector load_listed(const float* from) { return hn::LoadU(ListFloats(), from); }
HWY_INLINE ListVector load_listed(const hwy::float16_t* from) {
  const hn::Rebind<hwy::float16_t, ListFloats> halves;
  return hn::PromoteTo(ListFloats(), hn::LoadU(halves, from));
}

// Scores of kQueries query rows from `first` on. What lies behind a key is not a number one may
// multiply by zero: it is masked away.
template <int kQueries, class Stored>
HWY_INLINE void score_tokens(const ListSplit& split, int64_t first) {
  const ListFloats d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t dim = split.config.k_dim, whole = dim / lanes * lanes;
  const auto tail = hn::FirstN(d, static_cast<size_t>(dim - whole));
  const int64_t offset = split.head * (dim + split.config.v_dim);
  const float* q[kQueries];
  for (int r = 0; r < kQueries; ++r) q[r] = split.q + (first + r) * split.k_stride;
  for (int64_t i = 0; i < std::ssize(split.tokens); ++i) {
    const auto* key =
        reinterpret_cast<const Stored*>(split.tokens[static_cast<size_t>(i)]) + offset;
    ListVector acc[kQueries];
    for (int r = 0; r < kQueries; ++r) acc[r] = hn::Zero(d);
    for (int64_t c = 0; c < whole; c += lanes) {
      const ListVector k = load_listed(key + c);
      for (int r = 0; r < kQueries; ++r) acc[r] = hn::MulAdd(hn::LoadU(d, q[r] + c), k, acc[r]);
    }
    if (whole < dim) {
      const ListVector k = hn::IfThenElseZero(tail, load_listed(key + whole));
      for (int r = 0; r < kQueries; ++r) acc[r] = hn::MulAdd(hn::LoadU(d, q[r] + whole), k, acc[r]);
    }
    for (int r = 0; r < kQueries; ++r) {
      split.scores[(first + r) * split.score_stride + i] = hn::GetLane(hn::SumOfLanes(d, acc[r]));
    }
  }
}

// Scores [count] of one query row become 2^(s - top).
HWY_INLINE void weigh_listed(const ListSplit& split, int64_t row) {
  const ListFloats d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto count = std::ssize(split.tokens);
  float* const s = split.scores + row * split.score_stride;
  const float softcap = split.config.softcap;
  const ListVector cap = hn::Set(d, softcap * kListLog2E);
  const auto lane = [&](int64_t j) HWY_ATTR {
    return hn::FirstN(d, static_cast<size_t>(std::min(lanes, count - j)));
  };
  const ListVector nothing = hn::Set(d, -std::numeric_limits<float>::infinity());
  ListVector top = nothing;
  for (int64_t j = 0; j < count; j += lanes) {
    ListVector score = hn::LoadU(d, s + j);
    if (softcap > 0) score = hn::Mul(cap, tanh_of(score));
    score = hn::IfThenElse(lane(j), score, nothing);
    hn::StoreU(score, d, s + j);
    top = hn::Max(top, score);
  }
  top = largest_lane(d, top);
  ListVector sum = hn::Zero(d);
  for (int64_t j = 0; j < count; j += lanes) {
    const ListVector weight = exp2_of(hn::Sub(hn::LoadU(d, s + j), top));
    hn::StoreU(weight, d, s + j);
    sum = hn::Add(sum, weight);
  }
  split.tops[row] = hn::GetLane(top);
  split.sums[row] = hn::GetLane(hn::SumOfLanes(d, sum));
}

// values (columns [column, column + kVectors * lanes)) of kQueries rows from `first` on.
template <int kQueries, int kVectors, class Stored>
HWY_INLINE void add_values(const ListSplit& split, int64_t first, int64_t column) {
  const ListFloats d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t k_dim = split.config.k_dim, v_dim = split.config.v_dim;
  const int64_t offset = split.head * (k_dim + v_dim) + k_dim + column;
  ListVector acc[kQueries][kVectors];
  for (int r = 0; r < kQueries; ++r)
    for (int v = 0; v < kVectors; ++v) acc[r][v] = hn::Zero(d);
  const float* const weights = split.scores + first * split.score_stride;
  for (int64_t i = 0; i < std::ssize(split.tokens); ++i) {
    const auto* value =
        reinterpret_cast<const Stored*>(split.tokens[static_cast<size_t>(i)]) + offset;
    ListVector row[kVectors];
    for (int v = 0; v < kVectors; ++v) row[v] = load_listed(value + v * lanes);
    for (int r = 0; r < kQueries; ++r) {
      const ListVector weight = hn::Set(d, weights[r * split.score_stride + i]);
      for (int v = 0; v < kVectors; ++v) acc[r][v] = hn::MulAdd(weight, row[v], acc[r][v]);
    }
  }
  for (int r = 0; r < kQueries; ++r) {
    for (int v = 0; v < kVectors; ++v)
      hn::StoreU(acc[r][v], d, split.values + (first + r) * split.v_stride + column + v * lanes);
  }
}

template <int kQueries, class Stored>
HWY_NOINLINE void attend_listed(const ListSplit& split, int64_t first) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(ListFloats()));
  score_tokens<kQueries, Stored>(split, first);
  for (int r = 0; r < kQueries; ++r) weigh_listed(split, first + r);
  const int64_t columns = split.config.v_dim;
  int64_t c = 0;
  for (; columns - c >= 4 * lanes; c += 4 * lanes) add_values<kQueries, 4, Stored>(split, first, c);
  for (; c < columns; c += lanes) add_values<kQueries, 1, Stored>(split, first, c);
}

template <class Stored>
HWY_INLINE void attend_split_of(const ListSplit& split) {
  const int64_t ratio = split.config.q_heads / split.config.kv_heads;
  int64_t row = 0;
  for (; ratio - row >= 4; row += 4) attend_listed<4, Stored>(split, row);
  switch (ratio - row) {
    case 3:
      return attend_listed<3, Stored>(split, row);
    case 2:
      return attend_listed<2, Stored>(split, row);
    case 1:
      return attend_listed<1, Stored>(split, row);
    default:
      return;
  }
}

void AttendList(const ListSplit& split) {
  if (split.config.dtype == DType::kF16) {
    attend_split_of<hwy::float16_t>(split);
  } else {
    attend_split_of<float>(split);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme {
namespace {

HWY_EXPORT(AttendList);

// Tokens of a split: several for each thread of a long list, each long enough to be worth a task.
constexpr int64_t kSplitTokens = 256;

int64_t padded(int64_t floats) { return ceil_div(floats, kFewLanes) * kFewLanes; }

void store_row(const RowListAttention& config, const float* row, int64_t dim, std::byte* to) {
  MNEME_CHECK(storable(config.dtype, row, dim), "a row holds a number that ",
              dtype_name(config.dtype), " cannot store");
  if (config.dtype == DType::kF16) {
    floats_to_f16(row, dim, reinterpret_cast<uint16_t*>(to));
  } else {
    std::memcpy(to, row, static_cast<size_t>(dim) * sizeof(float));
  }
}

void load_row(const RowListAttention& config, const std::byte* from, int64_t dim, float* row) {
  if (config.dtype != DType::kF16) {
    std::memcpy(row, from, static_cast<size_t>(dim) * sizeof(float));
    return;
  }
  const auto* halves = reinterpret_cast<const uint16_t*>(from);
  for (int64_t i = 0; i < dim; ++i) row[i] = f16_to_float(halves[i]);
}

}  // namespace

void RowListAttention::validate() const {
  MNEME_CHECK(dtype == DType::kF32 || dtype == DType::kF16,
              "row list: rows are stored as F32 or F16, got ", dtype_name(dtype));
  MNEME_CHECK(k_dim > 0 && k_dim <= 1 << 16 && v_dim > 0 && v_dim <= 1 << 16,
              "row list: head sizes must be 1 to ", 1 << 16, ", got ", k_dim, " and ", v_dim);
  MNEME_CHECK(kv_heads > 0 && q_heads > 0 && q_heads % kv_heads == 0, "row list: ", q_heads,
              " query heads are no multiple of ", kv_heads, " KV heads");
}

void RowListAttention::write_token(const float* k, const float* v, std::byte* token) const {
  const int64_t size = element_bytes();
  for (int64_t head = 0; head < kv_heads; ++head) {
    std::byte* const at = token + head * (k_dim + v_dim) * size;
    store_row(*this, k + head * k_dim, k_dim, at);
    store_row(*this, v + head * v_dim, v_dim, at + k_dim * size);
  }
}

void RowListAttention::read_token(const std::byte* token, float* k, float* v) const {
  const int64_t size = element_bytes();
  for (int64_t head = 0; head < kv_heads; ++head) {
    const std::byte* const at = token + head * (k_dim + v_dim) * size;
    load_row(*this, at, k_dim, k + head * k_dim);
    load_row(*this, at + k_dim * size, v_dim, v + head * v_dim);
  }
}

void row_list_attention(const RowListAttention& config, std::span<const std::byte* const> tokens,
                        const float* q, float* out, float* weights, RowListScratch& scratch,
                        ThreadPool& pool) {
  config.validate();
  const auto count = std::ssize(tokens);
  MNEME_CHECK(count > 0, "row list: no token to attend to");
  const int64_t ratio = config.q_heads / config.kv_heads;
  const int64_t splits = ceil_div(count, kSplitTokens);
  const int64_t k_stride = padded(config.k_dim), v_stride = padded(config.v_dim);
  const int64_t score_stride = splits * kSplitTokens;
  const int64_t q_floats = config.q_heads * k_stride, score_floats = config.q_heads * score_stride,
                top_floats = padded(splits * config.q_heads);
  float* const scaled = grown(scratch.floats, q_floats + score_floats + 2 * top_floats +
                                                  splits * config.q_heads * v_stride);
  float* const scores = scaled + q_floats;
  float* const tops = scores + score_floats;
  float* const sums = tops + top_floats;
  float* const values = sums + top_floats;
  // Scores in powers of two; with a cap, in units of the cap.
  const float factor = config.softcap > 0
                           ? config.scale / config.softcap
                           : static_cast<float>(double{config.scale} * 1.4426950408889634);
  for (int64_t h = 0; h < config.q_heads; ++h) {
    float* const to = scaled + h * k_stride;
    for (int64_t i = 0; i < config.k_dim; ++i) to[i] = q[h * config.k_dim + i] * factor;
    std::fill(to + config.k_dim, to + k_stride, 0.0f);
  }
  pool.run(splits * config.kv_heads, [&](int64_t task, int) {
    const int64_t split = task / config.kv_heads, head = task % config.kv_heads;
    const int64_t first = split * kSplitTokens, row = head * ratio;
    const int64_t at = split * config.q_heads + row;
    HWY_DYNAMIC_DISPATCH(AttendList)
    ({.config = config,
      .tokens = tokens.subspan(static_cast<size_t>(first),
                               static_cast<size_t>(std::min(kSplitTokens, count - first))),
      .head = head,
      .q = scaled + row * k_stride,
      .k_stride = k_stride,
      .scores = scores + row * score_stride + first,
      .score_stride = score_stride,
      .tops = tops + at,
      .sums = sums + at,
      .values = values + at * v_stride,
      .v_stride = v_stride});
  });
  if (weights != nullptr) std::fill_n(weights, count, 0.0f);
  for (int64_t h = 0; h < config.q_heads; ++h) {
    float top = -std::numeric_limits<float>::infinity();
    for (int64_t s = 0; s < splits; ++s) top = std::max(top, tops[s * config.q_heads + h]);
    float sum = 0;
    for (int64_t s = 0; s < splits; ++s) {
      float& gain = tops[s * config.q_heads + h];
      gain = std::exp2(gain - top);
      sum += gain * sums[s * config.q_heads + h];
    }
    float* const to = out + h * config.v_dim;
    std::fill_n(to, config.v_dim, 0.0f);
    for (int64_t s = 0; s < splits; ++s) {
      const float gain = tops[s * config.q_heads + h] / sum;
      const float* const from = values + (s * config.q_heads + h) * v_stride;
      for (int64_t i = 0; i < config.v_dim; ++i) to[i] += gain * from[i];
      if (weights == nullptr) continue;
      const int64_t first = s * kSplitTokens, end = std::min(count, first + kSplitTokens);
      const float* const row = scores + h * score_stride;
      for (int64_t i = first; i < end; ++i) weights[i] += gain * row[i];
    }
  }
}

}  // namespace mneme
#endif
