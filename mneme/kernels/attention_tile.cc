#include "mneme/kernels/attention_tile.h"

#include <algorithm>
#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "mneme/kernels/attention_tile.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "mneme/kernels/attention_expand-inl.h"
#include "mneme/kernels/attention_product-inl.h"
#include "mneme/kernels/exp2-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr float kNothing = -std::numeric_limits<float>::infinity();

// The rows of a page that one query sees: [0, sink) and [low, high).
struct VisibleRows {
  int32_t sink = 0, low = 0, high = 0;
  int32_t begin() const { return sink > 0 ? 0 : low; }
  int32_t end() const { return std::max(sink, high); }
  bool empty() const { return sink == 0 && low >= high; }
};

// How many of the page's rows lie at positions <= position.
inline int32_t rows_up_to(const PageView& page, int64_t position) {
  if (page.positions == nullptr) {
    return static_cast<int32_t>(
        std::clamp<int64_t>(position - page.first_position + 1, 0, page.rows));
  }
  if (page.positions[page.rows - 1] <= position) return page.rows;
  return static_cast<int32_t>(
      std::upper_bound(page.positions, page.positions + page.rows, position) - page.positions);
}

inline VisibleRows visible_rows(const PagedAttention& config, const PageView& page,
                                int64_t position) {
  VisibleRows rows;
  rows.high = rows_up_to(page, position);
  if (config.window <= 0) return rows;
  rows.low = rows_up_to(page, position - config.window);
  rows.sink = std::min(rows.low, rows_up_to(page, config.sink - 1));
  if (rows.low >= rows.high) rows.low = rows.high = 0;
  return rows;
}

// Everything one page does to one group of kRows query rows.
struct PageStep {
  const TilePlan& plan;
  const TileMemory& memory;
  const Partial& partial;
  const VisibleRows* visible;  // [queries]
  int64_t ahead;               // bytes from this page to the next
};

// s [kRows, 64]: scores of rows `first`... against `columns` rows of the page.
template <int kRows, class B>
HWY_INLINE void score_rows(const PageStep& step, const B& keys, int64_t first, int64_t columns,
                           float* s) {
  const TilePlan& plan = step.plan;
  const int64_t dim = plan.config.format.k_dim;
  const float* q = step.memory.q + first * dim;
  if (plan.k_groups == 0) {
    multiply<kRows>(q, dim, 0, dim, keys, 0, columns, nullptr, s, kPageRows);
    return;
  }
  const Floats d;
  HWY_ALIGN float dots[kRows * kPageRows];
  const int64_t group = plan.config.format.group;
  for (int64_t g = 0; g < plan.k_groups; ++g) {
    multiply<kRows>(q, dim, g * group, (g + 1) * group, keys, 0, columns, nullptr, dots, kPageRows);
    const float* scales = step.memory.k_scales + g * kPageRows;
    const float* biases = step.memory.k_biases + g * kPageRows;
    for (int r = 0; r < kRows; ++r) {
      const FloatVector q_sum = hn::Set(d, step.memory.q_sums[(first + r) * plan.k_groups + g]);
      for (int64_t j = 0; j < columns; j += kLanes) {
        float* to = s + r * kPageRows + j;
        const FloatVector before = g == 0 ? hn::Zero(d) : hn::Load(d, to);
        const FloatVector shifted = hn::MulAdd(hn::LoadU(d, biases + j), q_sum, before);
        hn::Store(
            hn::MulAdd(hn::Load(d, dots + r * kPageRows + j), hn::LoadU(d, scales + j), shifted), d,
            to);
      }
    }
  }
}

// Caps and masks the scores of one row in place and returns their maximum.
HWY_INLINE float mask_scores(const VisibleRows& visible, float cap, int64_t columns, float* s) {
  const Floats d;
  const hn::RebindToSigned<Floats> di;
  FloatVector top = hn::Set(d, kNothing);
  const bool all = visible.begin() == 0 && visible.low <= visible.sink && visible.end() >= columns;
  for (int64_t j = 0; j < columns; j += kLanes) {
    FloatVector score = hn::Load(d, s + j);
    if (cap > 0) score = hn::Mul(hn::Set(d, cap), tanh_of(score));
    if (!all) {
      const auto slot = hn::Iota(di, static_cast<int32_t>(j));
      const auto in_sink = hn::Lt(slot, hn::Set(di, visible.sink));
      const auto in_window = hn::AndNot(hn::Lt(slot, hn::Set(di, visible.low)),
                                        hn::Lt(slot, hn::Set(di, visible.high)));
      const auto seen = hn::RebindMask(d, hn::Or(in_sink, in_window));
      score = hn::IfThenElse(seen, score, hn::Set(d, kNothing));
    }
    if (cap > 0 || !all) hn::Store(score, d, s + j);
    top = hn::Max(top, score);
  }
  return hn::GetLane(hn::MaxOfLanes(d, top));
}

template <int kRows, class K, class V>
HWY_NOINLINE void attend_rows(const PageStep& step, const K& keys, const V& values, int64_t first) {
  const TilePlan& plan = step.plan;
  const Floats d;
  // The span of rows that some query of the group sees.
  int64_t begin = kPageRows, end = 0;
  for (int64_t t = first / plan.ratio; t <= (first + kRows - 1) / plan.ratio; ++t) {
    if (step.visible[t].empty()) continue;
    begin = std::min<int64_t>(begin, step.visible[t].begin());
    end = std::max<int64_t>(end, step.visible[t].end());
  }
  if (end == 0) return;
  const int64_t columns =
      std::is_same_v<K, F32Reader> ? (end + kLanes - 1) / kLanes * kLanes : kPageRows;

  HWY_ALIGN float p[kRows * kPageRows];
  score_rows<kRows>(step, keys, first, columns, p);

  // The new maxima, and the factor that the old sums shrink by.
  HWY_ALIGN float base[16];
  HWY_ALIGN float alpha[16] = {};
  float* max = step.partial.max + first;
  for (int r = 0; r < kRows; ++r) {
    const float top =
        mask_scores(step.visible[(first + r) / plan.ratio], plan.cap, columns, p + r * kPageRows);
    const float next = std::max(max[r], top);
    base[r] = next == kNothing ? 0.0f : next;
    alpha[r] = max[r] - base[r];
    max[r] = next;
  }
  for (int64_t r = 0; r < kRows; r += kLanes) {
    hn::Store(exp2_of(hn::Load(d, alpha + r)), d, alpha + r);
  }

  for (int r = 0; r < kRows; ++r) {
    float* row = p + r * kPageRows;
    const FloatVector shift = hn::Set(d, base[r]);
    FloatVector sum = hn::Zero(d);
    for (int64_t j = 0; j < columns; j += kLanes) {
      const FloatVector weight = exp2_of(hn::Sub(hn::Load(d, row + j), shift));
      hn::Store(weight, d, row + j);
      sum = hn::Add(sum, weight);
    }
    float* lanes = step.memory.sum_lanes + (first + r) * 16;
    hn::StoreU(hn::MulAdd(hn::LoadU(d, lanes), hn::Set(d, alpha[r]), sum), d, lanes);
  }

  const int64_t stride = plan.v_stride;
  float* o = step.partial.values + first * stride;
  if (plan.v_groups == 0) {
    multiply<kRows>(p, kPageRows, begin, end, values, 0, stride, alpha, o, stride);
    return;
  }
  HWY_ALIGN float scaled[kRows * kPageRows];
  const int64_t group = plan.config.format.group;
  for (int64_t g = 0; g < plan.v_groups; ++g) {
    const float* scales = step.memory.v_scales + g * kPageRows;
    const float* biases = step.memory.v_biases + g * kPageRows;
    for (int r = 0; r < kRows; ++r) {
      float* lanes = step.memory.bias_lanes + ((first + r) * plan.v_groups + g) * 16;
      FloatVector bias = hn::Mul(hn::LoadU(d, lanes), hn::Set(d, alpha[r]));
      for (int64_t j = 0; j < columns; j += kLanes) {
        const FloatVector weight = hn::Load(d, p + r * kPageRows + j);
        hn::Store(hn::Mul(weight, hn::LoadU(d, scales + j)), d, scaled + r * kPageRows + j);
        bias = hn::MulAdd(weight, hn::LoadU(d, biases + j), bias);
      }
      hn::StoreU(bias, d, lanes);
    }
    multiply<kRows>(scaled, kPageRows, begin, end, values, g * group, group, alpha, o + g * group,
                    stride);
  }
}

template <class K, class V>
HWY_INLINE void attend_page(const PageStep& step, int64_t rows, const K& keys, const V& values) {
  const int64_t groups = (rows + kTileRows - 1) / kTileRows;
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t first = g * rows / groups;
    switch ((g + 1) * rows / groups - first) {
      case 1:
        attend_rows<1>(step, keys, values, first);
        break;
      case 2:
        attend_rows<2>(step, keys, values, first);
        break;
      case 3:
        attend_rows<3>(step, keys, values, first);
        break;
      case 4:
        attend_rows<4>(step, keys, values, first);
        break;
      case 5:
        attend_rows<5>(step, keys, values, first);
        break;
      default:
        attend_rows<6>(step, keys, values, first);
    }
  }
}

// Reads the page in its encoding where few rows ask, through an expanded copy where many do.
template <class K, class V>
HWY_INLINE void attend_encoded(const PageStep& step, int64_t rows, const PageView& page,
                               const K& keys, const V& values) {
  const RowFormat& format = step.plan.config.format;
  const F32Reader expanded_keys{step.memory.keys, kPageRows};
  const F32Reader expanded_values{step.memory.values, step.plan.v_stride};
  constexpr bool kPlain = std::is_same_v<K, F32Reader>;
  const int64_t width = step.plan.v_groups > 0 ? format.group : format.v_dim;
  const bool whole = width % (kPlain ? kLanes : kTileColumns) == 0 && width % 16 == 0;
  if (whole && (kPlain || rows <= 2 * kTileRows)) {
    attend_page(step, rows, keys, values);
    return;
  }
  expand_values(values, page.rows, format.v_dim, step.plan.v_stride, step.memory.values);
  if constexpr (kPlain) {
    attend_page(step, rows, keys, expanded_values);
  } else {
    expand_keys(keys, format.k_dim, step.memory.keys);
    attend_page(step, rows, expanded_keys, expanded_values);
  }
}

void AttendPage(const PageStep& step, int64_t rows, const PageView& page) {
  const TilePlan& plan = step.plan;
  const RowFormat& format = plan.config.format;
  const std::byte* k = page.data;
  const std::byte* v = page.data + plan.layout.v;
  if (format.quantised() && !plan.folded) {
    expand_unfolded(format, page, plan.v_stride, step.memory.keys, step.memory.values);
    attend_page(step, rows, F32Reader{step.memory.keys, kPageRows},
                F32Reader{step.memory.values, plan.v_stride});
    return;
  }
  if (plan.folded) {
    load_tables(format, k + plan.layout.k_scales, k + plan.layout.k_biases, plan.k_groups,
                page.rows, step.ahead, step.memory.k_scales, step.memory.k_biases);
    load_tables(format, k + plan.layout.v_scales, k + plan.layout.v_biases, plan.v_groups,
                page.rows, step.ahead, step.memory.v_scales, step.memory.v_biases);
  }
  switch (format.encoding) {
    case RowEncoding::kF32:
      attend_encoded(step, rows, page, F32Reader{reinterpret_cast<const float*>(k), kPageRows},
                     F32Reader{reinterpret_cast<const float*>(v), format.v_dim});
      break;
    case RowEncoding::kF16: {
      using Half = HalfReader<hwy::float16_t>;
      attend_encoded(step, rows, page, Half{reinterpret_cast<const hwy::float16_t*>(k), kPageRows},
                     Half{reinterpret_cast<const hwy::float16_t*>(v), format.v_dim});
      break;
    }
    case RowEncoding::kBF16: {
      using Half = HalfReader<hwy::bfloat16_t>;
      attend_encoded(step, rows, page, Half{reinterpret_cast<const hwy::bfloat16_t*>(k), kPageRows},
                     Half{reinterpret_cast<const hwy::bfloat16_t*>(v), format.v_dim});
      break;
    }
    case RowEncoding::kQ8:
      attend_encoded(step, rows, page,
                     Q8Reader{reinterpret_cast<const int8_t*>(k), kPageRows, step.ahead},
                     Q8Reader{reinterpret_cast<const int8_t*>(v), format.v_dim, step.ahead});
      break;
    case RowEncoding::kQ4:
      attend_encoded(
          step, rows, page, Q4KeyReader{reinterpret_cast<const uint8_t*>(k), step.ahead},
          Q4ValueReader{reinterpret_cast<const uint8_t*>(v), format.v_dim / 2, step.ahead});
      break;
  }
}

void AttendSplit(const TilePlan& plan, const QueryTile& tile, std::span<const PageView> pages,
                 const PageView* after, const TileMemory& memory, const Partial& partial) {
  const int64_t rows = tile.queries * plan.ratio;
  const Floats d;
  std::fill(partial.max, partial.max + rows, kNothing);
  std::fill(partial.values, partial.values + rows * plan.v_stride, 0.0f);
  std::fill(memory.sum_lanes, memory.sum_lanes + rows * 16, 0.0f);
  std::fill(memory.bias_lanes, memory.bias_lanes + rows * plan.v_groups * 16, 0.0f);
  VisibleRows visible[kMaxTileQueries];
  for (size_t i = 0; i < pages.size(); ++i) {
    const PageView& page = pages[i];
    const PageView* next = i + 1 < pages.size() ? &pages[i + 1] : after;
    bool any = false;
    for (int64_t t = 0; t < tile.queries; ++t) {
      visible[t] = visible_rows(plan.config, page, tile.first_position + t);
      any = any || !visible[t].empty();
    }
    if (!any) continue;
    const int64_t ahead = next == nullptr ? 0 : next->data - page.data;
    AttendPage({plan, memory, partial, visible, ahead}, rows, page);
  }
  const auto sum_of = [&](const float* lanes) HWY_ATTR {
    FloatVector sum = hn::LoadU(d, lanes);
    for (int64_t i = kLanes; i < 16; i += kLanes) sum = hn::Add(sum, hn::LoadU(d, lanes + i));
    return hn::GetLane(hn::SumOfLanes(d, sum));
  };
  for (int64_t r = 0; r < rows; ++r) {
    partial.sum[r] = sum_of(memory.sum_lanes + r * 16);
    for (int64_t g = 0; g < plan.v_groups; ++g) {
      const FloatVector bias = hn::Set(d, sum_of(memory.bias_lanes + (r * plan.v_groups + g) * 16));
      const int64_t group = plan.config.format.group;
      float* o = partial.values + r * plan.v_stride + g * group;
      for (int64_t i = 0; i < group; i += kLanes) {
        hn::StoreU(hn::Add(hn::LoadU(d, o + i), bias), d, o + i);
      }
    }
  }
}

void MergePartial(const TilePlan& plan, int64_t rows, const Partial& part, const Partial& total) {
  const Floats d;
  for (int64_t r = 0; r < rows; ++r) {
    if (part.max[r] == kNothing) continue;
    const float next = std::max(total.max[r], part.max[r]);
    const FloatVector keep = exp2_of(hn::Set(d, total.max[r] - next));
    const FloatVector take = exp2_of(hn::Set(d, part.max[r] - next));
    total.max[r] = next;
    total.sum[r] = hn::GetLane(
        hn::MulAdd(hn::Set(d, part.sum[r]), take, hn::Mul(hn::Set(d, total.sum[r]), keep)));
    const float* from = part.values + r * plan.v_stride;
    float* to = total.values + r * plan.v_stride;
    for (int64_t i = 0; i < plan.v_stride; i += kLanes) {
      hn::StoreU(hn::MulAdd(hn::LoadU(d, from + i), take, hn::Mul(hn::LoadU(d, to + i), keep)), d,
                 to + i);
    }
  }
}

void LoadQueries(const TilePlan& plan, const QueryTile& tile, const TileMemory& memory) {
  const int64_t dim = plan.config.format.k_dim;
  const int64_t group = plan.config.format.group;
  for (int64_t t = 0; t < tile.queries; ++t) {
    for (int64_t h = 0; h < plan.ratio; ++h) {
      const float* from = tile.q + (t * plan.config.q_heads + h) * dim;
      float* to = memory.q + (t * plan.ratio + h) * dim;
      for (int64_t i = 0; i < dim; ++i) to[i] = from[i] * plan.q_factor;
      for (int64_t g = 0; g < plan.k_groups; ++g) {
        const Floats d;
        FloatVector sum = hn::Zero(d);
        for (int64_t i = 0; i < group; i += kLanes) {
          sum = hn::Add(sum, hn::LoadU(d, to + g * group + i));
        }
        memory.q_sums[(t * plan.ratio + h) * plan.k_groups + g] =
            hn::GetLane(hn::SumOfLanes(d, sum));
      }
    }
  }
}

void Exp2(const float* x, int64_t n, float* y) {
  const Floats d;
  for (int64_t i = 0; i < n; ++i) y[i] = hn::GetLane(exp2_of(hn::Set(d, x[i])));
}

void Tanh(const float* x, int64_t n, float* y) {
  const Floats d;
  for (int64_t i = 0; i < n; ++i) y[i] = hn::GetLane(tanh_of(hn::Set(d, x[i])));
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme {

HWY_EXPORT(AttendSplit);
HWY_EXPORT(MergePartial);
HWY_EXPORT(LoadQueries);
HWY_EXPORT(Exp2);
HWY_EXPORT(Tanh);

void attend_split(const TilePlan& plan, const QueryTile& tile, std::span<const PageView> pages,
                  const PageView* after, const TileMemory& memory, const Partial& partial) {
  HWY_DYNAMIC_DISPATCH(AttendSplit)(plan, tile, pages, after, memory, partial);
}

void merge_partial(const TilePlan& plan, int64_t rows, const Partial& part, const Partial& total) {
  HWY_DYNAMIC_DISPATCH(MergePartial)(plan, rows, part, total);
}

void load_queries(const TilePlan& plan, const QueryTile& tile, const TileMemory& memory) {
  HWY_DYNAMIC_DISPATCH(LoadQueries)(plan, tile, memory);
}

void attention_exp2(const float* x, int64_t n, float* y) { HWY_DYNAMIC_DISPATCH(Exp2)(x, n, y); }

void attention_tanh(const float* x, int64_t n, float* y) { HWY_DYNAMIC_DISPATCH(Tanh)(x, n, y); }

}  // namespace mneme
#endif
