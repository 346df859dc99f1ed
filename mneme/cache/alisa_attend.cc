// The rows of a step through AlisaMemory: written to the fast tier, read densely by texts and sparsely
// by decoding queries.
#include <algorithm>
#include <numeric>

#include "mneme/cache/alisa_memory.h"
#include "mneme/cache/memory_steps.h"
#include "mneme/cache/paged_rows.h"
#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/core/grown.h"
#include "mneme/kernels/paged_attention.h"

namespace mneme {
namespace {

// Queries of a text whose weights are made at a time.
constexpr int64_t kWeightQueries = 8;

// What one attend() needs and nobody keeps.
struct Scratch {
  AttentionScratch attention;
  RowListScratch list;
  std::vector<float> k, v, values, unread, weights;
  std::vector<std::byte> room;
  std::vector<const std::byte*> tokens;
};
thread_local Scratch scratch;

}  // namespace

// Every token of a layer that a text's queries may see, in pages.
struct AlisaPages {
  PagedAttention attention;
  std::vector<PagedRows> heads;
  std::vector<std::span<const PageView>> views;
};

const std::byte* AlisaMemory::token(const Layer& layer, int64_t position, std::byte* room) const {
  const TierPlacement placed = layer.tokens.placement();
  if (position >= placed.slow_end) return layer.tokens.fast(position);
  if (position >= placed.deleted) {
    layer.tokens.load_slow(position, room, scratch.values);
    return room;
  }
  const auto found = std::ranges::lower_bound(layer.replayed, position);
  MNEME_ASSERT(found != layer.replayed.end() && *found == position);
  return layer.replayed_bytes.data() + (found - layer.replayed.begin()) * rows().token_bytes();
}

void AlisaMemory::write_rows(const LayerStep& step, ThreadPool& pool) {
  TieredTokens& tokens = at(step.layer).tokens;
  const int64_t k_floats = shape_.kv_heads * shape_.k_dim,
                v_floats = shape_.kv_heads * shape_.v_dim;
  const auto write = [&](int64_t first, int64_t end) {
    for (int64_t position = first; position < end; ++position) {
      const int64_t t = position - length_;
      tokens.write(position, step.k + t * k_floats, step.v + t * v_floats);
    }
  };
  const int64_t end = length_ + step_.tokens, first = length_ / options_.block;
  if (fresh(step_)) tokens.reserve(length_, end);
  // By blocks, because the first one may be shared with a fork and is copied by who writes it.
  const int64_t blocks = ceil_div(end, options_.block) - first;
  if (blocks == 1) return write(length_, end);
  pool.run(blocks, [&](int64_t block, int) {
    const int64_t at = (first + block) * options_.block;
    write(std::max(at, length_), std::min(at + options_.block, end));
  });
}

void AlisaMemory::attend(const LayerStep& step, ThreadPool& pool) {
  check_attend(step_, step, next_layer_, shape_.layers());
  write_rows(step, pool);
  if (decodes(step_)) {
    attend_token(step, pool);
  } else {
    attend_text(step, pool);
  }
  if (fresh(step_)) {
    TieredTokens& tokens = at(step.layer).tokens;
    if (shape_.sees_all(step.layer)) {
      // Nothing has moved yet in a fresh memory, whichever layers have.
      TierRules all = rules();
      all.deletable = step_.tokens;
      const TierPlacement next =
          place_tokens(schedule_after(step_.tokens), all, 0, step_.tokens, {});
      tokens.move(next, tokens.copies_for(next));
      slow_store_->release_pages();
    } else {
      tokens.drop_before(step_.tokens - window_of(step.layer) + 1);
    }
  }
  ++next_layer_;
}

void AlisaMemory::attend_text(const LayerStep& step, ThreadPool& pool) {
  Layer& layer = at(step.layer);
  const int64_t end = length_ + step_.tokens, window = window_of(step.layer);
  const int64_t first = window == 0 ? 0 : std::max<int64_t>(0, length_ - window + 1);
  const RowFormat format = page_format();
  AlisaPages pages{
      .attention = {.format = format,
                    .q_heads = shape_.q_heads,
                    .kv_heads = shape_.kv_heads,
                    .scale = step.scale,
                    .softcap = step.softcap,
                    .window = {.window = window},
                    .head_windows = {}},
      .heads = std::vector<PagedRows>(static_cast<size_t>(shape_.kv_heads), PagedRows(format)),
      .views = {}};
  for (PagedRows& head : pages.heads) head.reserve(first, end - first);
  float* const k = grown(scratch.k, shape_.kv_heads * shape_.k_dim);
  float* const v = grown(scratch.v, shape_.kv_heads * shape_.v_dim);
  std::byte* const room = grown(scratch.room, rows().token_bytes() + RowListAttention::kOverhang);
  for (int64_t position = first; position < end; ++position) {
    rows().read_token(token(layer, position, room), k, v);
    for (int64_t head = 0; head < shape_.kv_heads; ++head) {
      pages.heads[static_cast<size_t>(head)].append(
          static_cast<int32_t>(position), k + head * shape_.k_dim, v + head * shape_.v_dim);
    }
  }
  for (const PagedRows& head : pages.heads) pages.views.push_back(head.views());
  int64_t paged = 0;
  for (const PagedRows& head : pages.heads) paged += head.resident_bytes();
  peak_bytes_ = std::max(peak_bytes_, resident_bytes() + paged);
  paged_attention(pages.attention, step_.tokens, length_, step.q, pages.views, step.out,
                  scratch.attention, pool);
  if (window == 0) remember_text(step, pages, pool);
}

// The weights of the text's newest queries, all heads added up.
void AlisaMemory::remember_text(const LayerStep& step, const AlisaPages& pages, ThreadPool& pool) {
  Layer& layer = at(step.layer);
  layer.text = in_text_ ? layer.history : AttentionHistory(options_.ratio);
  const int64_t end = length_ + step_.tokens, heads = shape_.q_heads;
  const int64_t queries = std::min(step_.tokens, half_window(end, options_.ratio) + 1);
  float* const weights = grown(scratch.weights, kWeightQueries * heads * end);
  float* const unread = grown(scratch.unread, kWeightQueries * heads * shape_.v_dim);
  std::vector<float> sums;
  for (int64_t done = 0; done < queries;) {
    const int64_t count = std::min(kWeightQueries, queries - done);
    const int64_t first = end - queries + done;
    paged_attention(pages.attention, count, first,
                    step.q + (first - length_) * heads * shape_.k_dim, pages.views, unread,
                    scratch.attention, pool, {.sums = {}, .weights = weights, .stride = end});
    for (int64_t i = 0; i < count; ++i) {
      sums.assign(static_cast<size_t>(first + i + 1), 0.0f);
      for (int64_t head = 0; head < heads; ++head) {
        const float* const row = weights + (i * heads + head) * end;
        for (size_t j = 0; j < sums.size(); ++j) sums[j] += row[j];
      }
      layer.text->push_dense(sums);
    }
    done += count;
  }
}

void AlisaMemory::attend_token(const LayerStep& step, ThreadPool& pool) {
  Layer& layer = at(step.layer);
  const int64_t n = length_ + 1, window = window_of(step.layer);
  const int64_t newest = window > 0             ? std::min(window, n)
                         : layer.chosen.empty() ? n
                                                : half_window(n, options_.ratio);
  layer.read = layer.chosen;
  const auto older = layer.read.size();
  layer.read.resize(older + static_cast<size_t>(newest));
  std::iota(layer.read.begin() + static_cast<int64_t>(older), layer.read.end(),
            static_cast<int32_t>(n - newest));
  const TierPlacement placed = layer.tokens.placement();
  const auto slow = std::ranges::lower_bound(layer.read, placed.slow_end) - layer.read.begin();
  const int64_t bytes = rows().token_bytes();
  std::byte* room = grown(scratch.room, slow * bytes + RowListAttention::kOverhang);
  grown(scratch.tokens, std::ssize(layer.read));
  for (size_t i = 0; i < layer.read.size(); ++i, room += bytes)
    scratch.tokens[i] = token(layer, layer.read[i], room);
  RowListAttention attention = rows();
  attention.scale = step.scale;
  attention.softcap = step.softcap;
  layer.weights.resize(layer.read.size());
  row_list_attention(attention, std::span(scratch.tokens).first(layer.read.size()), step.q,
                     step.out, layer.weights.data(), scratch.list, pool);
  if (window > 0) return;
  const auto deleted = std::ranges::lower_bound(layer.read, placed.deleted) - layer.read.begin();
  traffic_.loads += slow - deleted;
  traffic_.recomputes += deleted;
  if (deleted > 0)
    traffic_.prefix =
        std::max<int64_t>(traffic_.prefix, layer.read[static_cast<size_t>(deleted - 1)] + 1);
}

}  // namespace mneme
