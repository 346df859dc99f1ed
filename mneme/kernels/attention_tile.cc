#include "mneme/kernels/attention_tile.h"

#include <algorithm>
#include <cmath>

// The byte dot products of AVX-512 VNNI, which Highway builds for on request only.
#define HWY_WANT_AVX3_DL
#include "mneme/kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "mneme/kernels/attention_tile.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "mneme/kernels/attention_pages-inl.h"
#include "mneme/kernels/attention_softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class Pages>
struct ScoreRows {
  const Pages& pages;
  template <int kRows>
  HWY_NOINLINE void run(int64_t first) const {
    const Span span = seen_by(pages.step, first, kRows);
    if (span.end > 0) pages.template score<kRows>(first, span);
  }
};

template <class Pages>
struct AddValues {
  const Pages& pages;
  template <int kRows>
  HWY_NOINLINE void run(int64_t first) const {
    const Span span = seen_by(pages.step, first, kRows);
    if (span.end > 0) pages.template add_values<kRows>(first, span);
  }
};

// Runs `body` for all rows of a tile, in groups of at most kTileRows.
template <class Body>
HWY_INLINE void for_each_group(int64_t rows, const Body& body) {
  const int64_t groups = (rows + kTileRows - 1) / kTileRows;
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t first = g * rows / groups;
    switch ((g + 1) * rows / groups - first) {
      case 1:
        body.template run<1>(first);
        break;
      case 2:
        body.template run<2>(first);
        break;
      case 3:
        body.template run<3>(first);
        break;
      case 4:
        body.template run<4>(first);
        break;
      case 5:
        body.template run<5>(first);
        break;
      default:
        body.template run<6>(first);
    }
  }
}

struct SplitStep {
  const TilePlan& plan;
  const QueryTile& tile;
  std::span<const PageView> pages, after;
  const TileMemory& memory;
  const Partial& partial;

  int64_t rows() const { return tile.queries * plan.ratio; }
  // During the keys the page's values are fetched, during those the keys of the next split.
  PageStep page(size_t i) const {
    const int64_t v = plan.layout.v;
    const int64_t next = i < after.size() ? after[i].data - pages[i].data - v : 0;
    const auto at = static_cast<int64_t>(i);
    return {plan,           memory, partial, pages[i], memory.visible + at * tile.queries,
            at * kPageRows, rows(), v,       next};
  }
  bool seen(size_t i) const {
    const VisibleRows* visible = memory.visible + static_cast<int64_t>(i) * tile.queries;
    return std::any_of(visible, visible + tile.queries,
                       [](const VisibleRows& v) { return !v.empty(); });
  }
};

template <class Pages>
HWY_NOINLINE void attend_pages(const SplitStep& split) {
  const TileMemory& memory = split.memory;
  const Partial& partial = split.partial;
  const int64_t rows = split.rows(), queries = split.tile.queries;
  for (size_t i = 0; i < split.pages.size(); ++i) {
    for (int64_t t = 0; t < queries; ++t) {
      memory.visible[static_cast<int64_t>(i) * queries + t] =
          visible_rows(split.tile.window, split.pages[i], split.tile.first_position + t);
    }
  }
  for (size_t i = 0; i < split.pages.size(); ++i) {
    if (!split.seen(i)) continue;
    const PageStep step = split.page(i);
    const Pages pages(step);
    pages.load_keys();
    for_each_group(rows, ScoreRows<Pages>{pages});
  }
  const auto count = static_cast<int64_t>(split.pages.size());
  for (int64_t r = 0; r < rows; ++r) {
    softmax_row(memory.visible + r / split.plan.ratio, queries, count, split.plan.cap,
                memory.weights + r * memory.weight_stride, partial.max + r, partial.sum + r);
  }
  const bool ahead = Pages::kCodes && codes_ahead(rows);
  for (size_t i = 0; i < split.pages.size() && ahead; ++i) {
    if (split.seen(i)) Pages(split.page(i)).load_values();
  }
  for (size_t i = 0; i < split.pages.size(); ++i) {
    if (!split.seen(i)) continue;
    const PageStep step = split.page(i);
    const Pages pages(step);
    if (!ahead) pages.load_values();
    for_each_group(rows, AddValues<Pages>{pages});
  }
}

void AttendSplit(const TilePlan& plan, const QueryTile& tile, std::span<const PageView> pages,
                 std::span<const PageView> after, const TileMemory& memory,
                 const Partial& partial) {
  const SplitStep split{plan, tile, pages, after, memory, partial};
  const int64_t rows = split.rows(), group = plan.config.format.group;
  std::fill(partial.values, partial.values + rows * plan.v_stride, 0.0f);
  switch (plan.config.format.encoding) {
    case RowEncoding::kF32:
      return attend_pages<FloatPages<float>>(split);
    case RowEncoding::kF16:
      return attend_pages<FloatPages<hwy::float16_t>>(split);
    case RowEncoding::kBF16:
      return attend_pages<FloatPages<hwy::bfloat16_t>>(split);
    case RowEncoding::kQ8:
    case RowEncoding::kQ4:
      break;
  }
  if (!plan.folded) return attend_pages<ExpandedPages>(split);
  std::fill(memory.bias_lanes, memory.bias_lanes + rows * plan.v_groups * 16, 0.0f);
  if (plan.config.format.encoding == RowEncoding::kQ8) {
    attend_pages<CodePages<8>>(split);
  } else {
    attend_pages<CodePages<4>>(split);
  }
  const Floats d;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t g = 0; g < plan.v_groups; ++g) {
      const float* lanes = memory.bias_lanes + (r * plan.v_groups + g) * 16;
      const FloatVector bias = hn::SumOfLanes(d, hn::LoadU(d, lanes));
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

// A query row of folded formats: q [Dk], already scaled.
HWY_INLINE void code_row(const TilePlan& plan, const TileMemory& memory, int64_t row,
                         const float* q) {
  const Floats d;
  const RowFormat& format = plan.config.format;
  const int32_t centre = format.encoding == RowEncoding::kQ8 ? 128 : 8;
  for (int64_t g = 0; g < plan.k_groups; ++g) {
    const int64_t at = row * plan.k_groups + g, first = g * format.group;
    int32_t sum_of_factors = 0;
    memory.q_steps[at] = code_query(q, first, format.group, format.k_dim,
                                    memory.q_factors + row * format.k_dim, &sum_of_factors);
    memory.q_offsets[at] = centre * sum_of_factors;
    FloatVector sum = hn::Zero(d);
    for (int64_t i = first; i < first + format.group; i += kLanes) {
      sum = hn::Add(sum, hn::LoadU(d, q + i));
    }
    memory.q_sums[at] = hn::GetLane(hn::SumOfLanes(d, sum));
  }
}

void LoadQueries(const TilePlan& plan, const QueryTile& tile, const TileMemory& memory) {
  const int64_t dim = plan.config.format.k_dim;
  for (int64_t t = 0; t < tile.queries; ++t) {
    for (int64_t h = 0; h < plan.ratio; ++h) {
      const float* from = tile.q + (t * plan.config.q_heads + h) * dim;
      const int64_t row = t * plan.ratio + h;
      float* to = memory.q + (plan.folded ? 0 : row * dim);
      for (int64_t i = 0; i < dim; ++i) to[i] = from[i] * plan.q_factor;
      if (plan.folded) code_row(plan, memory, row, to);
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
                  std::span<const PageView> after, const TileMemory& memory,
                  const Partial& partial) {
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
