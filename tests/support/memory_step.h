// Steps of random rows through a memory, the same for the same seed: what the tests of memories
// compare two of them by.
#pragma once

#include <algorithm>
#include <vector>

#include "mneme/cache/memory.h"
#include "mneme/core/rng.h"

namespace mneme::testing {

inline constexpr float kStepScale = 0.2f;

struct StepRows {
  std::vector<float> q;  // [tokens, q_heads, k_dim]
  std::vector<float> k;  // [tokens, kv_heads, k_dim]
  std::vector<float> v;  // [tokens, kv_heads, v_dim]
};

// Standard normal rows of one layer.
inline StepRows random_rows(const MemoryShape& shape, int64_t tokens, Rng& rng) {
  const auto fill = [&](int64_t floats) {
    std::vector<float> values(static_cast<size_t>(floats));
    for (float& value : values) value = static_cast<float>(rng.normal());
    return values;
  };
  StepRows rows;
  rows.q = fill(tokens * shape.q_heads * shape.k_dim);
  rows.k = fill(tokens * shape.kv_heads * shape.k_dim);
  rows.v = fill(tokens * shape.kv_heads * shape.v_dim);
  return rows;
}

// Rows of one layer that depend on their positions alone, so that a text can be read in one step, in
// parts or twice.
inline StepRows rows_at(const MemoryShape& shape, int64_t layer, int64_t first, int64_t tokens) {
  StepRows all;
  for (int64_t position = first; position < first + tokens; ++position) {
    Rng rng(static_cast<uint64_t>(position * 100 + layer));
    const StepRows one = random_rows(shape, 1, rng);
    all.q.insert(all.q.end(), one.q.begin(), one.q.end());
    all.k.insert(all.k.end(), one.k.begin(), one.k.end());
    all.v.insert(all.v.end(), one.v.begin(), one.v.end());
  }
  return all;
}

// Gives `rows` to `layer` of the step that has begun; appends the answers to `answers`.
inline void attend_rows(SequenceMemory& memory, int64_t layer, const StepRows& rows,
                        ThreadPool& pool, std::vector<float>& answers) {
  const MemoryShape& shape = memory.shape();
  const size_t before = answers.size();
  const size_t width = rows.q.size() / static_cast<size_t>(shape.k_dim);
  answers.resize(before + width * static_cast<size_t>(shape.v_dim));
  memory.attend({.layer = layer,
                 .q = rows.q.data(),
                 .k = rows.k.data(),
                 .v = rows.v.data(),
                 .scale = kStepScale,
                 .out = answers.data() + before},
                pool);
}

// A whole step of `tokens` positions; what every layer answered, one after the other. `drawn`
// >= tokens rows are drawn for each layer and the first `tokens` of them used, so that a shorter
// step can begin with the same rows as a longer one.
inline std::vector<float> step(SequenceMemory& memory, int64_t tokens, uint64_t seed,
                               int64_t drawn = 0) {
  Rng rng(seed);
  ThreadPool pool(2);
  const MemoryShape& shape = memory.shape();
  std::vector<float> answers;
  memory.begin(memory.plan(tokens));
  for (int64_t layer = 0; layer < shape.layers(); ++layer) {
    StepRows rows = random_rows(shape, std::max(tokens, drawn), rng);
    rows.q.resize(static_cast<size_t>(tokens * shape.q_heads * shape.k_dim));
    attend_rows(memory, layer, rows, pool, answers);
  }
  memory.commit();
  return answers;
}

}  // namespace mneme::testing
