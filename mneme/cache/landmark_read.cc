// The rows of a step through LandmarkMemory: written into blocks, closed by landmarks, read by
// queries.
#include <algorithm>
#include <numeric>

#include "mneme/cache/landmark_memory.h"
#include "mneme/cache/memory_steps.h"
#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/core/grown.h"

namespace mneme {
namespace {

// Queries of one head that a thread answers at a time.
constexpr int64_t kTileQueries = 16;
constexpr int64_t kScoreRoom = 16;  // floats that score_rows() writes past the rows

// What a thread needs to answer queries and nobody keeps.
struct Scratch {
  std::vector<float> row;     // [k_dim]
  std::vector<float> turned;  // [places, k_dim]
  std::vector<float> scores;  // of landmarks
  std::vector<float> attention;
  std::vector<int32_t> fetched;
  std::vector<BlockItem> items;
  LandmarkScratch select;
};
thread_local Scratch scratch;

}  // namespace

LandmarkMemory::Run LandmarkMemory::run_from(int64_t layer, int64_t position, int64_t end) const {
  const int64_t block = options_.block, window = window_of(layer);
  Run run{.layer = layer, .first = position, .local = local_block(layer, position, position)};
  const int64_t last =
      window > 0 ? (run.local + 1) * block + window - 1 : run.local * block + options_.chunk;
  run.queries = std::min(last, end) - position;
  run.older = run.local;
  if (fetches(layer))
    run.older = options_.blocks == 0 ? 0 : std::max<int64_t>(0, run.local - options_.blocks);
  run.fetched = std::min(options_.top, run.local - run.older);
  return run;
}

void LandmarkMemory::write_rows(const LayerStep& step, ThreadPool& pool) {
  BlockRows& rows = layers_[static_cast<size_t>(step.layer)];
  const int64_t block = options_.block;
  write_heads(step_, shape_.kv_heads, pool, [&](int64_t head) {
    float* const key = grown(scratch.row, shape_.k_dim);
    for (int64_t t = 0; t < step_.tokens; ++t) {
      const int64_t position = length_ + t, place = position % block;
      const int64_t row = t * shape_.kv_heads + head;
      turns_.turn(step.layer, step.k + row * shape_.k_dim, place, key);
      layout_.write_row(place, key, step.v + row * shape_.v_dim,
                        rows.open_block(position / block, head));
      if (place == block - 1 && fetches(step.layer))
        close_block(rows, step.layer, head, position / block);
    }
  });
}

// A landmark key stands where its block's last row does. It is made of the rows as they are stored,
// so that a block that was saved or trimmed gets the same one.
void LandmarkMemory::close_block(BlockRows& rows, int64_t layer, int64_t head,
                                 int64_t block) const {
  const int64_t last = options_.block - 1, dim = shape_.k_dim;
  const std::byte* const bytes = rows.block(block, head);
  std::vector<float> key(static_cast<size_t>(dim));
  if (grouped()) {
    layout_.read_key(bytes, last, key.data());
  } else {
    // The mean before rotation, turned to the last place: every key turned there from its own.
    std::vector<float> row(key.size());
    for (int64_t r = 0; r <= last; ++r) {
      layout_.read_key(bytes, r, row.data());
      turns_.turn(layer, row.data(), last - r, row.data());
      add(key.data(), row.data(), dim);
    }
    scale(key.data(), 1 / static_cast<float>(options_.block), dim);
  }
  rows.write_landmark(block, head, key.data());
}

// scores [local - older + kScoreRoom] of the landmarks that may be fetched, scaled.
void LandmarkMemory::score_landmarks(const LayerStep& step, const Run& run, int64_t head,
                                     int64_t query, float* scores) const {
  const BlockRows& rows = layers_[static_cast<size_t>(run.layer)];
  const int64_t kv_head = head / (shape_.q_heads / shape_.kv_heads), dim = shape_.k_dim;
  const int64_t position = run.first + query;
  const float* const q = step.q + ((position - length_) * shape_.q_heads + head) * dim;
  float* const turned = grown(scratch.row, dim);
  const int64_t end_distance = position - run.local * options_.block;
  const BlockScale scaled{.scale = step.scale, .softcap = step.softcap};
  const auto score = [&](int64_t slot, int64_t begin, int64_t end) {
    turns_.turn(run.layer, q, end_distance + (run.fetched + 1 - slot) * options_.block, turned);
    for (int64_t block = begin; block < end;) {
      const int64_t tile = block / BlockRows::kTileBlocks, first = block % BlockRows::kTileBlocks;
      const int64_t count = std::min(end - block, BlockRows::kTileBlocks - first);
      score_rows(rows.tile_layout(), scaled,
                 {.block = rows.tile(tile, kv_head), .q = turned, .first = first, .rows = count},
                 scores + (block - run.older));
      block += count;
    }
  };
  const int64_t recent = run.local - run.fetched;
  score(0, run.older, recent);
  for (int64_t block = recent; block < run.local; ++block) {
    score(landmark_slot(block - run.older, run.local - run.older, run.fetched), block, block + 1);
  }
}

// fetched: blocks counted from run.older, ascending.
void LandmarkMemory::attend_query(const LayerStep& step, const Run& run, int64_t head,
                                  int64_t query, std::span<const int32_t> fetched) const {
  const BlockRows& rows = layers_[static_cast<size_t>(run.layer)];
  const int64_t block = options_.block, dim = shape_.k_dim;
  const int64_t kv_head = head / (shape_.q_heads / shape_.kv_heads);
  const int64_t position = run.first + query, own = position / block;
  const int64_t row = (position - length_) * shape_.q_heads + head;
  const auto places = std::ssize(fetched) + own - run.local + 1;
  float* turned = grown(scratch.turned, places * dim);
  scratch.items.clear();
  const auto read = [&](int64_t which, int64_t distance, int64_t first, int64_t count,
                        bool closed) {
    turns_.turn(run.layer, step.q + row * dim, distance, turned);
    scratch.items.push_back({.block = rows.block(which, kv_head),
                             .q = turned,
                             .first = first,
                             .rows = count,
                             .closed = closed && grouped()});
    turned += dim;
  };
  const int64_t end_distance = position - run.local * block;
  for (size_t rank = 0; rank < fetched.size(); ++rank) {
    const int64_t slot =
        fetched_slot(static_cast<int64_t>(rank), fetched[rank], run.local - run.older, run.fetched);
    read(run.older + fetched[rank], end_distance + (run.fetched + 1 - slot) * block, 0, block,
         true);
  }
  // A layer with a window of its own ends exactly there.
  const int64_t unseen =
      fetches(run.layer) ? 0 : std::max<int64_t>(0, position - window_of(run.layer) + 1);
  for (int64_t which = run.local; which < own; ++which) {
    const int64_t first = std::max<int64_t>(0, unseen - which * block);
    read(which, position - which * block, first, block - first, true);
  }
  const int64_t first = std::max<int64_t>(0, unseen - own * block);
  int64_t count = position % block + 1 - first;
  if (grouped() && position % block == block - 1) --count;  // a landmark does not see itself
  read(own, position - own * block, first, count, false);
  grouped_attention(layout_, {.scale = step.scale, .softcap = step.softcap}, scratch.items,
                    step.out + row * shape_.v_dim, scratch.attention);
}

void LandmarkMemory::answer(const LayerStep& step, const Run& run, ThreadPool& pool) {
  const int64_t blocks = run.local - run.older, stride = blocks + kScoreRoom;
  const int64_t tiles = ceil_div(run.queries, kTileQueries);
  const bool chooses = run.fetched < blocks;
  const bool shared = chooses && options_.selection != LandmarkSelection::kPerTokenAndHead;
  std::vector<float> scores;
  std::vector<int32_t> selected;
  const auto for_tiles = [&](auto&& body) {
    pool.run(shape_.q_heads * tiles, [&](int64_t task, int) {
      const int64_t head = task / tiles, first = task % tiles * kTileQueries;
      body(head, first, std::min(first + kTileQueries, run.queries));
    });
  };
  if (shared) {
    scores.resize(static_cast<size_t>(shape_.q_heads * run.queries * stride));
    selected.resize(static_cast<size_t>(shape_.q_heads * run.queries * run.fetched));
    for_tiles([&](int64_t head, int64_t first, int64_t end) {
      for (int64_t query = first; query < end; ++query)
        score_landmarks(step, run, head, query,
                        scores.data() + (head * run.queries + query) * stride);
    });
    select_blocks(options_.selection,
                  {.scores = scores.data(),
                   .heads = shape_.q_heads,
                   .queries = run.queries,
                   .blocks = blocks,
                   .stride = stride},
                  options_.top, selected, scratch.select, options_.other_rule);
  }
  const auto count = static_cast<size_t>(run.fetched);
  for_tiles([&](int64_t head, int64_t first, int64_t end) {
    for (int64_t query = first; query < end; ++query) {
      std::span<const int32_t> fetched{grown(scratch.fetched, run.fetched), count};
      if (shared) {
        fetched = std::span(selected).subspan(
            static_cast<size_t>(head * run.queries + query) * count, count);
      } else if (chooses) {
        float* const row = grown(scratch.scores, stride);
        score_landmarks(step, run, head, query, row);
        select_blocks(options_.selection, {row, 1, 1, blocks, stride}, options_.top,
                      {scratch.fetched.data(), count}, scratch.select, options_.other_rule);
      } else {
        std::iota(scratch.fetched.data(), scratch.fetched.data() + count, 0);
      }
      attend_query(step, run, head, query, fetched);
    }
  });
}

}  // namespace mneme
