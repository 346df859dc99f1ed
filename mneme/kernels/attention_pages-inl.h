// The two products of attention over one page, per SIMD target, for the two families of stored
// rows: floats (attention_product-inl.h) and codes (attention_codes-inl.h). Tests:
// paged_attention_test.cc.
#if defined(MNEME_KERNELS_ATTENTION_PAGES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_KERNELS_ATTENTION_PAGES_INL_H_
#undef MNEME_KERNELS_ATTENTION_PAGES_INL_H_
#else
#define MNEME_KERNELS_ATTENTION_PAGES_INL_H_
#endif

#include <hwy/highway.h>

#include "mneme/kernels/attention_codes-inl.h"
#include "mneme/kernels/attention_expand-inl.h"
#include "mneme/kernels/attention_tile.h"

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// What one page does to the rows of a tile.
struct PageStep {
  const TilePlan& plan;
  const TileMemory& memory;
  const Partial& partial;
  const PageView& page;
  const VisibleRows* visible;  // [queries]
  int64_t slot;                // of the page's first row in memory.weights
  int64_t rows;                // of the tile
  // What is fetched meanwhile lies so many bytes after the keys and after the values, 0 for
  // nothing.
  int64_t keys_ahead, values_ahead;
};

// The rows of the page that some of the tile's rows [first, first + count) see.
struct Span {
  int64_t begin = kPageRows, end = 0;
};
HWY_INLINE Span seen_by(const PageStep& step, int64_t first, int64_t count) {
  Span span;
  for (int64_t t = first / step.plan.ratio; t <= (first + count - 1) / step.plan.ratio; ++t) {
    if (step.visible[t].empty()) continue;
    span.begin = std::min<int64_t>(span.begin, step.visible[t].begin());
    span.end = std::max<int64_t>(span.end, step.visible[t].end());
  }
  return span;
}

HWY_INLINE F32Reader expanded_keys(const PageStep& step) { return {step.memory.keys, kPageRows}; }
HWY_INLINE F32Reader expanded_values(const PageStep& step) {
  return {step.memory.values, step.plan.v_stride};
}

template <int kRows, class B>
HWY_INLINE void score_floats(const PageStep& step, const B& keys, int64_t first, const Span& span) {
  const int64_t dim = step.plan.config.format.k_dim, stride = step.memory.weight_stride;
  const int64_t columns = B::kFloats ? (span.end + kLanes - 1) / kLanes * kLanes : kPageRows;
  multiply<kRows>(step.memory.q + first * dim, dim, 0, dim, keys, 0, columns, false,
                  step.memory.weights + first * stride + step.slot, stride);
}

template <int kRows, class B>
HWY_INLINE void add_float_values(const PageStep& step, const B& values, int64_t first,
                                 const Span& span) {
  const int64_t dim = step.plan.v_stride, stride = step.memory.weight_stride;
  multiply<kRows>(step.memory.weights + first * stride + step.slot, stride, span.begin, span.end,
                  values, 0, dim, true, step.partial.values + first * dim, dim);
}

// Pages of T, read in their encoding where few rows ask and through an expanded copy where many do.
template <typename T>
struct FloatPages {
  static constexpr bool kCodes = false;
  static constexpr bool kPlain = std::is_same_v<T, float>;

  const PageStep& step;
  StoredReader<T> keys, values;
  bool keys_expanded, values_expanded;

  HWY_INLINE explicit FloatPages(const PageStep& s)
      : step(s),
        keys{reinterpret_cast<const T*>(s.page.data), kPageRows, s.keys_ahead},
        values{reinterpret_cast<const T*>(s.page.data + s.plan.layout.v),
               s.plan.config.format.v_dim, s.values_ahead} {
    const int64_t dim = s.plan.config.format.v_dim;
    const bool many = !kPlain && s.rows > 2 * kTileRows;
    const bool whole = dim % (kPlain ? kLanes : kTileColumns) == 0 && dim % 16 == 0;
    keys_expanded = many;
    values_expanded = many || !whole;
  }

  HWY_INLINE void load_keys() const {
    if (keys_expanded) expand_keys(keys, step.plan.config.format.k_dim, step.memory.keys);
  }
  HWY_INLINE void load_values() const {
    if (!values_expanded) return;
    expand_values(values, step.page.rows, step.plan.config.format.v_dim, step.plan.v_stride,
                  step.memory.values);
  }
  template <int kRows>
  HWY_INLINE void score(int64_t first, const Span& span) const {
    if (!kPlain && keys_expanded) {
      score_floats<kRows>(step, expanded_keys(step), first, span);
    } else {
      score_floats<kRows>(step, keys, first, span);
    }
  }
  template <int kRows>
  HWY_INLINE void add_values(int64_t first, const Span& span) const {
    if (values_expanded) {
      add_float_values<kRows>(step, expanded_values(step), first, span);
    } else {
      add_float_values<kRows>(step, values, first, span);
    }
  }
};

// Codes whose groups fill no vectors: both parts are expanded to floats by read_row.
struct ExpandedPages {
  static constexpr bool kCodes = false;

  const PageStep& step;
  HWY_INLINE explicit ExpandedPages(const PageStep& s) : step(s) {}

  HWY_INLINE void load_keys() const {
    expand_code_keys(step.plan.config.format, step.page, step.memory.keys);
  }
  HWY_INLINE void load_values() const {
    expand_code_values(step.plan.config.format, step.page, step.plan.v_stride, step.memory.values);
  }
  template <int kRows>
  HWY_INLINE void score(int64_t first, const Span& span) const {
    score_floats<kRows>(step, expanded_keys(step), first, span);
  }
  template <int kRows>
  HWY_INLINE void add_values(int64_t first, const Span& span) const {
    add_float_values<kRows>(step, expanded_values(step), first, span);
  }
};

// score (+)= step * scale * (sum of factor * (code - centre)) + bias * sum of q
struct ScoreEmit {
  const float* scales;  // [64]
  const float* biases;
  const float* steps;  // of a row, `groups` apart; likewise:
  const float* q_sums;
  const int32_t* offsets;
  int64_t groups;
  bool add;
  float* scores;
  int64_t stride;
  HWY_INLINE IntVector start(int64_t r) const { return hn::Set(Ints(), -offsets[r * groups]); }
  HWY_INLINE void operator()(int64_t r, int64_t column, IntVector sums) const {
    const Floats d;
    float* to = scores + r * stride + column;
    const FloatVector bias = hn::LoadU(d, biases + column);
    const FloatVector q_sum = hn::Set(d, q_sums[r * groups]);
    const FloatVector shift =
        add ? hn::MulAdd(bias, q_sum, hn::LoadU(d, to)) : hn::Mul(bias, q_sum);
    const FloatVector scale = hn::Mul(hn::LoadU(d, scales + column), hn::Set(d, steps[r * groups]));
    hn::StoreU(hn::MulAdd(hn::ConvertTo(d, sums), scale, shift), d, to);
  }
};

// value += step * (sum of factor * (code - centre))
struct ValueEmit {
  const float* steps;  // of a row
  float* values;
  int64_t stride;
  HWY_INLINE IntVector start(int64_t) const { return hn::Zero(Ints()); }
  HWY_INLINE void operator()(int64_t r, int64_t column, IntVector sums) const {
    const Floats d;
    float* to = values + r * stride + column;
    hn::StoreU(hn::MulAdd(hn::ConvertTo(d, sums), hn::Set(d, steps[r]), hn::LoadU(d, to)), d, to);
  }
};

template <int kBits>
struct CodePages {
  static constexpr bool kCodes = true;
  // Elements of one line of codes.
  static constexpr int64_t kLine = 4 * CodeLines<kBits>::kQuads;

  const PageStep& step;
  HWY_INLINE explicit CodePages(const PageStep& s) : step(s) {}

  HWY_INLINE void load_keys() const {
    const std::byte* page = step.page.data;
    const PageLayout& at = step.plan.layout;
    load_tables(step.plan.config.format, false, page + at.k_scales, page + at.k_biases,
                step.plan.k_groups, step.page.rows,
                tables_ahead(step.keys_ahead, at.v_scales - at.v - at.k_scales),
                step.memory.k_scales, step.memory.k_biases);
  }
  // And the tile's weights become factors.
  HWY_INLINE void load_values() const {
    const std::byte* page = step.page.data;
    const PageLayout& at = step.plan.layout;
    const TileMemory& memory = step.memory;
    const int64_t groups = step.plan.v_groups;
    load_tables(step.plan.config.format, true, page + at.v_scales, page + at.v_biases, groups,
                step.page.rows, tables_ahead(step.values_ahead, at.k_scales + at.v - at.v_scales),
                memory.v_scales, memory.v_biases);
    for (int64_t g = 0; g < groups; ++g) {
      for (int64_t r = 0; r < step.rows; ++r) {
        const float* p = memory.weights + r * memory.weight_stride + step.slot;
        const int64_t to = factors_of(g) + r;
        memory.p_steps[to] =
            code_weights(p, memory.v_scales + g * kPageRows, memory.p_factors + to * kPageRows);
        add_biases(p, memory.v_biases + g * kPageRows, memory.bias_lanes + (r * groups + g) * 16);
      }
    }
  }
  // From tables to those of the part that is fetched, which lie `shift` bytes off.
  HWY_INLINE static int64_t tables_ahead(int64_t ahead, int64_t shift) {
    return ahead == 0 ? 0 : ahead + shift;
  }
  // Index of the first row's factors for a group.
  HWY_INLINE int64_t factors_of(int64_t g) const {
    const int64_t page = codes_ahead(step.rows) ? step.slot / kPageRows : 0;
    return (page * step.plan.v_groups + g) * step.rows;
  }

  template <int kRows>
  HWY_INLINE void score(int64_t first, const Span&) const {
    const TileMemory& memory = step.memory;
    const RowFormat& format = step.plan.config.format;
    const int64_t groups = step.plan.k_groups, lines = format.group / kLine;
    const CodeLines<kBits> codes{step.page.data, kPageRows, step.keys_ahead};
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t at = first * groups + g;
      const ScoreEmit emit{memory.k_scales + g * kPageRows,
                           memory.k_biases + g * kPageRows,
                           memory.q_steps + at,
                           memory.q_sums + at,
                           memory.q_offsets + at,
                           groups,
                           g > 0,
                           memory.weights + first * memory.weight_stride + step.slot,
                           memory.weight_stride};
      multiply_codes<CodeUse::kKeys, kRows>(memory.q_factors + first * format.k_dim, format.k_dim,
                                            format.k_dim, g * lines, (g + 1) * lines, codes, 0,
                                            kPageRows, emit);
    }
  }

  template <int kRows>
  HWY_INLINE void add_values(int64_t first, const Span&) const {
    const TileMemory& memory = step.memory;
    const RowFormat& format = step.plan.config.format;
    const int64_t groups = step.plan.v_groups, stride = step.plan.v_stride;
    const CodeLines<kBits> codes{step.page.data + step.plan.layout.v, format.v_dim,
                                 step.values_ahead};
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t from = factors_of(g) + first;
      const ValueEmit emit{memory.p_steps + from, step.partial.values + first * stride, stride};
      multiply_codes<CodeUse::kValues, kRows>(memory.p_factors + from * kPageRows, kPageRows,
                                              kPageRows, 0, kPageRows / kLine, codes,
                                              g * format.group, (g + 1) * format.group, emit);
    }
  }

  HWY_INLINE static void add_biases(const float* HWY_RESTRICT p, const float* HWY_RESTRICT biases,
                                    float* HWY_RESTRICT lanes) {
    const Floats d;
    FloatVector sum = hn::LoadU(d, lanes);
    MNEME_UNROLL
    for (int64_t j = 0; j < kPageRows; j += kLanes) {
      sum = hn::MulAdd(hn::LoadU(d, p + j), hn::LoadU(d, biases + j), sum);
    }
    hn::StoreU(sum, d, lanes);
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#endif
