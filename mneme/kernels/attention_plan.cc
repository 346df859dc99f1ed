#include <algorithm>
#include <limits>
#include <numbers>

#include "mneme/core/checked.h"
#include "mneme/kernels/attention_tile.h"

namespace mneme {
namespace {

// Rows of a full tile: enough that expanding a page costs little beside using it, few enough that
// queries, results and the page stay in the second-level cache.
constexpr int64_t kTileTargetRows = 96;

// Hands out parts of a block of floats, each starting on a 64-byte boundary.
class Carver {
 public:
  explicit Carver(float* memory) : memory_(memory) {}
  float* take(int64_t floats) {
    float* part = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += checked_round_up(floats, 16, "attention scratch");
    return part;
  }
  int32_t* take_integers(int64_t count) {
    static_assert(sizeof(int32_t) == sizeof(float));
    return reinterpret_cast<int32_t*>(take(count));
  }
  int64_t used() const { return used_; }

 private:
  float* memory_;
  int64_t used_ = 0;
};

void carve(const TilePlan& plan, int64_t rows, Carver& carver, TileMemory& memory) {
  const RowFormat& format = plan.config.format;
  const int64_t coded = plan.folded ? rows : 0, plain = plan.folded ? 0 : rows;
  const bool expands = !plan.folded;
  memory.q = carver.take(std::max(plain, std::min<int64_t>(rows, 1)) * format.k_dim);
  memory.q_factors = carver.take_integers(coded * format.k_dim);
  memory.q_offsets = carver.take_integers(coded * plan.k_groups);
  memory.q_steps = carver.take(coded * plan.k_groups);
  memory.q_sums = carver.take(coded * plan.k_groups);
  // Room that does not shrink with more rows.
  const int64_t factors =
      plan.v_groups * std::max(coded, std::min(coded, kCodesAheadRows) * plan.split_pages);
  memory.p_factors = carver.take_integers(factors * kPageRows);
  memory.p_steps = carver.take(factors);
  memory.bias_lanes = carver.take(coded * plan.v_groups * 16);
  memory.k_scales = carver.take(plan.k_groups * kPageRows);
  memory.k_biases = carver.take(plan.k_groups * kPageRows);
  memory.v_scales = carver.take(plan.v_groups * kPageRows);
  memory.v_biases = carver.take(plan.v_groups * kPageRows);
  memory.keys = carver.take(expands ? format.k_dim * kPageRows : 0);
  memory.values = carver.take(expands ? kPageRows * plan.v_stride : 0);
  const int64_t visible = plan.split_pages * ceil_div(rows, plan.ratio);
  memory.visible = reinterpret_cast<VisibleRows*>(
      carver.take(visible * static_cast<int64_t>(sizeof(VisibleRows) / sizeof(float))));
  memory.sum_factors = carver.take(rows);
  memory.weight_stride = plan.split_pages * kPageRows;
  memory.weights = carver.take(rows * memory.weight_stride);
}

void carve(const TilePlan& plan, int64_t rows, Carver& carver, Partial& partial) {
  partial.max = carver.take(rows);
  partial.sum = carver.take(rows);
  partial.values = carver.take(rows * plan.v_stride);
}

}  // namespace

TilePlan::TilePlan(const PagedAttention& attention, int64_t most_split_pages)
    : config(attention),
      layout(page_layout(attention.format)),
      split_pages(most_split_pages),
      ratio(attention.q_heads / attention.kv_heads),
      tile_queries(std::clamp<int64_t>(kTileTargetRows / ratio, 1, kMaxTileQueries)),
      folded(attention.format.quantised() && attention.format.group % 32 == 0),
      k_groups(folded ? attention.format.k_dim / attention.format.group : 0),
      v_groups(folded ? attention.format.v_dim / attention.format.group : 0),
      v_stride(checked_round_up(attention.format.v_dim, 16, "attention")) {
  constexpr double kLog2E = std::numbers::log2e;
  if (config.softcap > 0) {
    q_factor = static_cast<float>(double{config.scale} / config.softcap);
    cap = static_cast<float>(config.softcap * kLog2E);
  } else {
    q_factor = static_cast<float>(config.scale * kLog2E);
  }
}

int64_t TilePlan::memory_floats(int64_t rows) const {
  Carver carver(nullptr);
  TileMemory memory(*this, 0, nullptr);
  carve(*this, rows, carver, memory);
  return carver.used();
}

int64_t TilePlan::partial_floats(int64_t rows) const {
  Carver carver(nullptr);
  Partial partial(*this, 0, nullptr);
  carve(*this, rows, carver, partial);
  return carver.used();
}

TileMemory::TileMemory(const TilePlan& plan, int64_t rows, float* memory) {
  Carver carver(memory);
  carve(plan, rows, carver, *this);
}

Partial::Partial(const TilePlan& plan, int64_t rows, float* memory) {
  Carver carver(memory);
  carve(plan, rows, carver, *this);
}

void clear_partial(const TilePlan& plan, int64_t rows, const Partial& total) {
  std::fill(total.max, total.max + rows, -std::numeric_limits<float>::infinity());
  std::fill(total.sum, total.sum + rows, 0.0f);
  std::fill(total.values, total.values + rows * plan.v_stride, 0.0f);
}

void finish_tile(const TilePlan& plan, const QueryTile& tile, const Partial& total) {
  const int64_t dim = plan.config.format.v_dim;
  for (int64_t t = 0; t < tile.queries; ++t) {
    for (int64_t h = 0; h < plan.ratio; ++h) {
      const int64_t row = t * plan.ratio + h;
      const float* from = total.values + row * plan.v_stride;
      float* to = tile.out + (t * plan.config.q_heads + h) * dim;
      // Adding 0 makes a negative zero positive, whose sign depends on the masked rows around it.
      const float sum = total.sum[row] > 0 ? total.sum[row] : 1.0f;
      for (int64_t i = 0; i < dim; ++i) to[i] = from[i] / sum + 0.0f;
    }
  }
}

}  // namespace mneme
