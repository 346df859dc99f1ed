#include "mneme/kernels/paged_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/kernels/attention_tile.h"

namespace mneme {
namespace {

int64_t position_of(const PageView& page, int64_t row) {
  return page.positions != nullptr ? page.positions[row] : int64_t{page.first_position} + row;
}

int64_t split_of(const PageView& page) { return position_of(page, 0) / kSplitPositions; }

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
  MNEME_CHECK(config.window >= 0 && config.sink >= 0,
              "paged_attention: expected window and sink of at least 0, got ", config.window,
              " and ", config.sink);
  MNEME_CHECK(queries >= 0 && first_position >= 0,
              "paged_attention: expected queries and first position of at least 0, got ", queries,
              " and ", first_position);
  for (int64_t head = 0; head < config.kv_heads; ++head) {
    check_pages(head, heads[static_cast<size_t>(head)]);
  }
}

// A call cut into tiles: task = (tile, KV head).
struct Call {
  const TilePlan& plan;
  int64_t queries, first_position;
  const float* q;
  std::span<const std::span<const PageView>> heads;
  float* out;

  int64_t tiles() const { return ceil_div(queries, plan.tile_queries); }
  QueryTile tile(int64_t index, int64_t head) const {
    const int64_t first = index * plan.tile_queries;
    const int64_t row = first * plan.config.q_heads + head * plan.ratio;
    return {std::min(plan.tile_queries, queries - first), first_position + first,
            q + row * plan.config.format.k_dim, out + row * plan.config.format.v_dim};
  }
};

// Calls body(ordinal, pages) for every split of `pages`, in order; returns their number.
template <typename Body>
int64_t for_each_split(std::span<const PageView> pages, Body&& body) {
  int64_t ordinal = 0;
  for (size_t begin = 0; begin < pages.size();) {
    const int64_t split = split_of(pages[begin]);
    size_t end = begin + 1;
    while (end < pages.size() && split_of(pages[end]) == split) ++end;
    body(ordinal++, pages.subspan(begin, end - begin));
    begin = end;
  }
  return ordinal;
}

// Many queries: a task walks all splits of its tile.
void attend_by_tile(const Call& call, AttentionScratch& scratch, ThreadPool& pool) {
  const TilePlan& plan = call.plan;
  const int64_t most = std::min(plan.tile_queries, call.queries) * plan.ratio;
  const int64_t memory_floats = plan.memory_floats(most),
                partial_floats = plan.partial_floats(most);
  const int64_t worker_floats = memory_floats + 2 * partial_floats;
  float* base = scratch.reserve(worker_floats * pool.size());
  const int64_t heads = plan.config.kv_heads, tasks = call.tiles() * heads;
  pool.run(tasks, [&](int64_t task, int worker) {
    // The last tiles see the most rows: they go first, so that no long task is left at the end.
    const int64_t head = (tasks - 1 - task) % heads;
    const QueryTile tile = call.tile((tasks - 1 - task) / heads, head);
    const int64_t rows = tile.queries * plan.ratio;
    float* mine = base + worker_floats * worker;
    const TileMemory memory(plan, rows, mine);
    const Partial part(plan, rows, mine + memory_floats);
    const Partial total(plan, rows, mine + memory_floats + partial_floats);
    load_queries(plan, tile, memory);
    clear_partial(plan, rows, total);
    const std::span<const PageView> all = call.heads[static_cast<size_t>(head)];
    for_each_split(all, [&](int64_t, std::span<const PageView> pages) {
      const PageView* after = &pages.back() == &all.back() ? nullptr : &pages.back() + 1;
      attend_split(plan, tile, pages, after, memory, part);
      merge_partial(plan, rows, part, total);
    });
    finish_tile(plan, tile, total);
  });
}

// Few queries: a task per (tile, KV head, split), whose partial results are merged in order.
void attend_by_split(const Call& call, int64_t splits, AttentionScratch& scratch,
                     ThreadPool& pool) {
  const TilePlan& plan = call.plan;
  const int64_t most = std::min(plan.tile_queries, call.queries) * plan.ratio;
  const int64_t memory_floats = plan.memory_floats(most),
                partial_floats = plan.partial_floats(most);
  const int64_t heads = plan.config.kv_heads, tiles = call.tiles();
  const int64_t parts = tiles * heads * (splits + 1);  // one more for the total
  float* base = scratch.reserve(memory_floats * pool.size() + partial_floats * parts);
  float* partials = base + memory_floats * pool.size();
  const auto partial_at = [&](int64_t tile, int64_t head, int64_t split, int64_t rows) {
    return Partial(plan, rows,
                   partials + ((tile * heads + head) * (splits + 1) + split) * partial_floats);
  };
  pool.run(tiles * heads * splits, [&](int64_t task, int worker) {
    const int64_t split = task % splits, head = task / splits % heads,
                  index = task / splits / heads;
    const QueryTile tile = call.tile(index, head);
    const int64_t rows = tile.queries * plan.ratio;
    const TileMemory memory(plan, rows, base + memory_floats * worker);
    for_each_split(call.heads[static_cast<size_t>(head)], [&](int64_t ordinal,
                                                              std::span<const PageView> pages) {
      if (ordinal != split) return;
      load_queries(plan, tile, memory);
      attend_split(plan, tile, pages, nullptr, memory, partial_at(index, head, split, rows));
    });
  });
  const auto merge = [&](int64_t task, int) {
    const int64_t head = task % heads, index = task / heads;
    const QueryTile tile = call.tile(index, head);
    const int64_t rows = tile.queries * plan.ratio;
    const Partial total = partial_at(index, head, splits, rows);
    clear_partial(plan, rows, total);
    for_each_split(call.heads[static_cast<size_t>(head)],
                   [&](int64_t split, std::span<const PageView>) {
                     merge_partial(plan, rows, partial_at(index, head, split, rows), total);
                   });
    finish_tile(plan, tile, total);
  };
  // Waking the pool costs microseconds: worth it for long merges only.
  constexpr int64_t kSerialFloats = 1 << 16;
  if (partial_floats * parts <= kSerialFloats) {
    for (int64_t task = 0; task < tiles * heads; ++task) merge(task, 0);
  } else {
    pool.run(tiles * heads, merge);
  }
}

}  // namespace

float* AttentionScratch::reserve(int64_t floats) {
  constexpr size_t kLine = 64;
  const size_t need = static_cast<size_t>(floats) + kLine / sizeof(float);
  if (storage_.size() < need) storage_.resize(need);
  const auto address = reinterpret_cast<uintptr_t>(storage_.data());
  return storage_.data() + (kLine - address % kLine) % kLine / sizeof(float);
}

void paged_attention(const PagedAttention& config, int64_t queries, int64_t first_position,
                     const float* q, std::span<const std::span<const PageView>> heads, float* out,
                     AttentionScratch& scratch, ThreadPool& pool) {
  check(config, queries, first_position, heads);
  if (queries == 0) return;
  const TilePlan plan(config);
  const Call call{plan, queries, first_position, q, heads, out};
  int64_t splits = 0;
  for (const std::span<const PageView> pages : heads) {
    splits = std::max(splits, for_each_split(pages, [](int64_t, std::span<const PageView>) {}));
  }
  const bool few_tasks = call.tiles() * config.kv_heads < 4 * pool.size();
  if (pool.size() > 1 && few_tasks && splits > 1) {
    attend_by_split(call, splits, scratch, pool);
  } else {
    attend_by_tile(call, scratch, pool);
  }
}

}  // namespace mneme
