#include "mneme/kernels/paged_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/kernels/attention_splits.h"
#include "mneme/kernels/attention_sums.h"
#include "mneme/kernels/attention_tile.h"

namespace mneme {
namespace {

void check_pages(int64_t head, std::span<const PageView> pages) {
  int64_t last = -1;
  for (size_t i = 0; i < pages.size(); ++i) {
    const PageView& page = pages[i];
    MNEME_CHECK(page.data != nullptr, "paged_attention: page ", i, " of KV head ", head,
                " has no data");
    MNEME_CHECK(page.rows >= 1 && page.rows <= kPageRows, "paged_attention: page ", i,
                " of KV head ", head, ": expected 1 to ", kPageRows, " rows, got ", page.rows);
    MNEME_CHECK(position_of(page, 0) > last, "paged_attention: page ", i, " of KV head ", head,
                " begins at position ", position_of(page, 0), ", expected one after ", last);
    last = position_of(page, page.rows - 1);
    MNEME_CHECK(last <= std::numeric_limits<int32_t>::max(), "paged_attention: page ", i,
                " of KV head ", head, " ends at position ", last, ", past the largest");
  }
}

void check(const PagedAttention& config, int64_t queries, int64_t first_position,
           std::span<const std::span<const PageView>> heads) {
  config.format.validate();
  MNEME_CHECK(config.kv_heads > 0 && config.q_heads > 0 && config.q_heads % config.kv_heads == 0,
              "paged_attention: expected query heads that are a multiple of the KV heads, got ",
              config.q_heads, " and ", config.kv_heads);
  MNEME_CHECK(static_cast<int64_t>(heads.size()) == config.kv_heads,
              "paged_attention: expected pages of ", config.kv_heads, " KV heads, got ",
              heads.size());
  MNEME_CHECK(std::isfinite(config.scale), "paged_attention: expected a finite scale, got ",
              config.scale);
  MNEME_CHECK(config.softcap >= 0 && std::isfinite(config.softcap),
              "paged_attention: expected a softcap of at least 0, got ", config.softcap);
  MNEME_CHECK(config.head_windows.empty() ||
                  static_cast<int64_t>(config.head_windows.size()) == config.kv_heads,
              "paged_attention: expected windows of ", config.kv_heads, " KV heads, got ",
              config.head_windows.size());
  for (int64_t head = 0; head < config.kv_heads; ++head) {
    const RowWindow& window = config.window_of(head);
    MNEME_CHECK(window.window >= 0 && window.sink >= 0,
                "paged_attention: expected window and sink of at least 0, got ", window.window,
                " and ", window.sink);
    MNEME_CHECK(window.block >= 1,
                "paged_attention: expected a window of blocks of at least 1, got ", window.block);
  }
  MNEME_CHECK(queries >= 0 && first_position >= 0,
              "paged_attention: expected queries and first position of at least 0, got ", queries,
              " and ", first_position);
  for (int64_t head = 0; head < config.kv_heads; ++head) {
    check_pages(head, heads[static_cast<size_t>(head)]);
  }
}

void check_sinks(const WeightSinks& sinks, const PagedAttention& config, const SplitTable& splits) {
  for (int64_t head = 0; head < config.kv_heads && sinks.weights != nullptr; ++head) {
    MNEME_CHECK(sinks.stride >= splits.rows(head),
                "paged_attention: expected weights of a stride of at least ", splits.rows(head),
                " for KV head ", head, ", got ", sinks.stride);
  }
  const std::span<const std::span<double>> sums = sinks.sums;
  if (sums.empty()) return;
  MNEME_CHECK(static_cast<int64_t>(sums.size()) == config.kv_heads,
              "paged_attention: expected weight sums of ", config.kv_heads, " KV heads, got ",
              sums.size());
  for (int64_t head = 0; head < config.kv_heads; ++head) {
    MNEME_CHECK(static_cast<int64_t>(sums[static_cast<size_t>(head)].size()) == splits.rows(head),
                "paged_attention: expected ", splits.rows(head), " weight sums for KV head ", head,
                ", got ", sums[static_cast<size_t>(head)].size());
  }
}

// A call cut into tiles: task = (tile, KV head).
struct Call {
  const TilePlan& plan;
  const SplitTable& splits;
  int64_t queries, first_position;
  const float* q;
  float* out;
  const WeightSinks& sinks;

  bool keeps_weights() const { return !sinks.sums.empty() || sinks.weights != nullptr; }
  int64_t heads() const { return plan.config.kv_heads; }
  int64_t tiles() const { return ceil_div(queries, plan.tile_queries); }
  int64_t most_rows() const { return std::min(plan.tile_queries, queries) * plan.ratio; }
  QueryTile tile(int64_t index, int64_t head) const {
    const int64_t first = index * plan.tile_queries;
    const int64_t row = first * plan.config.q_heads + head * plan.ratio;
    return {std::min(plan.tile_queries, queries - first), first_position + first,
            q + row * plan.config.format.k_dim, out + row * plan.config.format.v_dim,
            plan.config.window_of(head)};
  }
  // Floats of a row of weights that holds every page of `head`.
  int64_t weight_floats(int64_t head) const {
    return splits.start(head, splits.splits(head)).page * kPageRows;
  }
  // Hands out a split's weights, which lie at memory.weights. sums: of the KV head, where wanted.
  void hand_out(int64_t index, int64_t head, int64_t split, const TileMemory& memory,
                const float* part_max, const Partial& total, double* sums) const {
    const int64_t first = index * plan.tile_queries;
    const SplitWeights part{splits.pages(head, split), memory.weights, memory.weight_stride,
                            std::min(plan.tile_queries, queries - first), plan.ratio};
    const int64_t row = splits.start(head, split).row;
    weight_factors(part, part_max, total, memory.sum_factors);
    if (sums != nullptr) add_weight_sums(part, memory.sum_factors, sums + row);
    if (sinks.weights == nullptr) return;
    const int64_t query_stride = plan.config.q_heads * sinks.stride;
    copy_weights(part, memory.sum_factors,
                 sinks.weights + first * query_stride + head * plan.ratio * sinks.stride + row,
                 query_stride, sinks.stride);
  }
};

// Many queries: a task walks all splits of its tile.
void attend_by_tile(const Call& call, AttentionScratch& scratch, ThreadPool& pool) {
  const TilePlan& plan = call.plan;
  const SplitTable& splits = call.splits;
  const int64_t most = call.most_rows(), heads = call.heads(), tasks = call.tiles() * heads;
  const int64_t memory_floats = plan.memory_floats(most),
                partial_floats = plan.partial_floats(most);
  // For sinks: the weights and maxima of all splits of a tile, and the worker's own sums.
  int64_t weight_floats = 0, max_floats = 0, sum_floats = 0;
  if (call.keeps_weights()) {
    for (int64_t head = 0; head < heads; ++head) {
      weight_floats = std::max(weight_floats, most * call.weight_floats(head));
      if (call.sinks.sums.empty()) continue;
      sum_floats += 2 * checked_round_up(splits.rows(head), 8, "attention scratch");
    }
    max_floats = checked_round_up(most * splits.most_splits(), 16, "attention scratch");
  }
  const int64_t worker_floats =
      memory_floats + 2 * partial_floats + weight_floats + max_floats + sum_floats;
  float* base = scratch.reserve(worker_floats * pool.size());
  const auto sums_of = [&](int worker) {
    return reinterpret_cast<double*>(base + worker_floats * (worker + 1) - sum_floats);
  };
  for (int worker = 0; worker < pool.size() && sum_floats > 0; ++worker) {
    std::fill_n(sums_of(worker), sum_floats / 2, 0.0);
  }
  pool.run(tasks, [&](int64_t task, int worker) {
    // The last tiles see the most rows: they go first, so that the longest are not left at the end.
    const int64_t head = (tasks - 1 - task) % heads;
    const QueryTile tile = call.tile((tasks - 1 - task) / heads, head);
    const int64_t rows = tile.queries * plan.ratio;
    float* mine = base + worker_floats * worker;
    TileMemory memory(plan, rows, mine);
    const Partial part(plan, rows, mine + memory_floats);
    const Partial total(plan, rows, mine + memory_floats + partial_floats);
    float* weights = mine + memory_floats + 2 * partial_floats;
    float* maxima = weights + weight_floats;
    const auto keep_weights = [&](int64_t split) {
      memory.weight_stride = call.weight_floats(head);
      memory.weights = weights + splits.start(head, split).page * kPageRows;
    };
    load_queries(plan, tile, memory);
    clear_partial(plan, rows, total);
    for (int64_t split = 0; split < splits.splits(head); ++split) {
      if (weight_floats > 0) keep_weights(split);
      attend_split(plan, tile, splits.pages(head, split), splits.pages(head, split + 1), memory,
                   part);
      if (weight_floats > 0) std::copy_n(part.max, rows, maxima + split * most);
      merge_partial(plan, rows, part, total);
    }
    finish_tile(plan, tile, total);
    if (weight_floats == 0) return;
    double* sums = sum_floats > 0 ? sums_of(worker) : nullptr;
    for (int64_t before = 0; before < head && sums != nullptr; ++before) {
      sums += checked_round_up(splits.rows(before), 8, "attention scratch");
    }
    for (int64_t split = 0; split < splits.splits(head); ++split) {
      keep_weights(split);
      call.hand_out((tasks - 1 - task) / heads, head, split, memory, maxima + split * most, total,
                    sums);
    }
  });
  for (int worker = 0; worker < pool.size() && sum_floats > 0; ++worker) {
    const double* from = sums_of(worker);
    for (const std::span<double>& to : call.sinks.sums) {
      for (size_t row = 0; row < to.size(); ++row) to[row] += from[row];
      from += checked_round_up(static_cast<int64_t>(to.size()), 8, "attention scratch");
    }
  }
}

// Few queries: a task per (tile, KV head, split), whose partial results are merged in order.
void attend_by_split(const Call& call, AttentionScratch& scratch, ThreadPool& pool) {
  const TilePlan& plan = call.plan;
  const SplitTable& table = call.splits;
  const int64_t most = call.most_rows(), heads = call.heads(), tiles = call.tiles();
  const int64_t splits = table.most_splits();
  const int64_t memory_floats = plan.memory_floats(most),
                partial_floats = plan.partial_floats(most);
  const int64_t parts = tiles * heads * (splits + 1);  // one more for the total
  // For sinks: the weights of every tile and KV head.
  int64_t weight_floats = 0;
  for (int64_t head = 0; head < heads && call.keeps_weights(); ++head) {
    weight_floats = std::max(weight_floats, most * call.weight_floats(head));
  }
  float* base = scratch.reserve(memory_floats * pool.size() + partial_floats * parts +
                                weight_floats * tiles * heads);
  float* partials = base + memory_floats * pool.size();
  float* weights = partials + partial_floats * parts;
  const auto partial_at = [&](int64_t tile, int64_t head, int64_t split, int64_t rows) {
    return Partial(plan, rows,
                   partials + ((tile * heads + head) * (splits + 1) + split) * partial_floats);
  };
  const auto memory_at = [&](int64_t tile, int64_t head, int64_t split, int64_t rows, int worker) {
    TileMemory memory(plan, rows, base + memory_floats * worker);
    if (weight_floats > 0) {
      memory.weight_stride = call.weight_floats(head);
      memory.weights = weights + (tile * heads + head) * weight_floats +
                       table.start(head, split).page * kPageRows;
    }
    return memory;
  };
  const int64_t tasks = tiles * heads * splits;
  pool.run(tasks, [&](int64_t task, int worker) {
    const int64_t split = task % splits, head = task / splits % heads,
                  index = task / splits / heads;
    if (split >= table.splits(head)) return;
    const QueryTile tile = call.tile(index, head);
    const int64_t rows = tile.queries * plan.ratio;
    const TileMemory memory = memory_at(index, head, split, rows, worker);
    const int64_t next = std::min(task + 1, tasks - 1);
    load_queries(plan, tile, memory);
    attend_split(plan, tile, table.pages(head, split),
                 table.pages(next / splits % heads, next % splits), memory,
                 partial_at(index, head, split, rows));
  });
  const auto merge = [&](int64_t task, int) {
    const int64_t head = task % heads, index = task / heads;
    const QueryTile tile = call.tile(index, head);
    const int64_t rows = tile.queries * plan.ratio;
    const Partial total = partial_at(index, head, splits, rows);
    clear_partial(plan, rows, total);
    for (int64_t split = 0; split < table.splits(head); ++split) {
      merge_partial(plan, rows, partial_at(index, head, split, rows), total);
    }
    finish_tile(plan, tile, total);
  };
  // Waking the pool costs microseconds: worth it for long merges only.
  constexpr int64_t kSerialFloats = 1 << 16;
  if (partial_floats * parts <= kSerialFloats) {
    for (int64_t task = 0; task < tiles * heads; ++task) merge(task, 0);
  } else {
    pool.run(tiles * heads, merge);
  }
  if (weight_floats == 0) return;
  pool.run(heads * splits, [&](int64_t task, int worker) {
    const int64_t head = task / splits, split = task % splits;
    if (split >= table.splits(head)) return;
    for (int64_t index = 0; index < tiles; ++index) {
      const int64_t rows = call.tile(index, head).queries * plan.ratio;
      const auto at = static_cast<size_t>(head);
      call.hand_out(index, head, split, memory_at(index, head, split, rows, worker),
                    partial_at(index, head, split, rows).max, partial_at(index, head, splits, rows),
                    call.sinks.sums.empty() ? nullptr : call.sinks.sums[at].data());
    }
  });
}

}  // namespace

float* AttentionScratch::reserve(int64_t floats) {
  constexpr size_t kLine = 64;
  const size_t need = static_cast<size_t>(floats) + kLine / sizeof(float);
  if (storage_.size() < need) storage_.resize(need);
  const auto address = reinterpret_cast<uintptr_t>(storage_.data());
  return storage_.data() + (kLine - address % kLine) % kLine / sizeof(float);
}

int64_t* AttentionScratch::reserve_integers(int64_t count) {
  if (integers_.size() < static_cast<size_t>(count)) integers_.resize(static_cast<size_t>(count));
  return integers_.data();
}

void paged_attention(const PagedAttention& config, int64_t queries, int64_t first_position,
                     const float* q, std::span<const std::span<const PageView>> heads, float* out,
                     AttentionScratch& scratch, ThreadPool& pool, const WeightSinks& sinks) {
  check(config, queries, first_position, heads);
  if (queries == 0) return;
  const SplitTable splits(heads, scratch);
  check_sinks(sinks, config, splits);
  const TilePlan plan(config, splits.most_pages());
  const Call call{plan, splits, queries, first_position, q, out, sinks};
  const bool few_tasks = call.tiles() * config.kv_heads < 4 * pool.size();
  if (pool.size() > 1 && few_tasks && splits.most_splits() > 1) {
    attend_by_split(call, scratch, pool);
  } else {
    attend_by_tile(call, scratch, pool);
  }
}

}  // namespace mneme
