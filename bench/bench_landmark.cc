// Time of attention with a long past: the landmark memory (k fetched blocks and what is near) against
// the exact memory of the same rows, at a layer shaped like SmolLM2-135M's. Writing the rows is part
// of both.
//
//   bench_landmark [--json FILE] [--threads N]
#include <algorithm>

#include "bench/bench.h"
#include "mneme/cache/landmark_memory.h"
#include "mneme/cache/memory_registry.h"
#include "mneme/core/rng.h"
#include "mneme/core/thread_pool.h"

namespace mneme::bench {
namespace {

constexpr int64_t kRepeats = 9;

struct Rows {
  std::vector<float> q, k, v, out;
};

Rows random_rows(const MemoryShape& shape, int64_t tokens) {
  Rng rng(1);
  const auto fill = [&](int64_t floats) {
    std::vector<float> rows(static_cast<size_t>(floats));
    for (float& value : rows) value = static_cast<float>(rng.normal());
    return rows;
  };
  return {fill(tokens * shape.q_heads * shape.k_dim), fill(tokens * shape.kv_heads * shape.k_dim),
          fill(tokens * shape.kv_heads * shape.v_dim), fill(tokens * shape.q_heads * shape.v_dim)};
}

void attend(SequenceMemory& memory, Rows& rows, ThreadPool& pool) {
  memory.attend({.q = rows.q.data(),
                 .k = rows.k.data(),
                 .v = rows.v.data(),
                 .scale = 0.125f,
                 .out = rows.out.data()},
                pool);
  keep(rows.out);
}

// Seconds that a step of `chunk` tokens takes a memory that holds `past`.
double step_seconds(SequenceMemory& memory, int64_t past, int64_t chunk, Rows& rows,
                    ThreadPool& pool) {
  for (int64_t done = 0; done < past; done += 512) {
    const int64_t count = std::min<int64_t>(512, past - done);
    memory.begin(memory.plan(count));
    attend(memory, rows, pool);
    memory.commit();
  }
  const Timing timing = time_runs(kRepeats, [&] {
    memory.begin(memory.plan(chunk));
    attend(memory, rows, pool);
    memory.abort();
  });
  return timing.median_s;
}

void run(Report& report) {
  const MemoryShape shape{.q_heads = 9,
                          .kv_heads = 3,
                          .k_dim = 64,
                          .v_dim = 64,
                          .context = 32768,
                          .windows = {0},
                          .rotary = {{.base = 100000}}};
  ThreadPool pool(report.threads());
  Rows rows = random_rows(shape, 512);
  for (const int64_t past : {2048, 8192, 16384}) {
    for (const int64_t chunk : {1, 64}) {
      for (const DType dtype : {DType::kF32, DType::kF16}) {
        const bool narrow = dtype == DType::kF16;
        const auto full =
            MemoryRegistry::builtin().build(narrow ? "full(dtype=f16)" : "full(dtype=f32)", shape);
        LandmarkMemory landmark("landmark tokens", shape, {.block = 51, .top = 2, .dtype = dtype});
        const double full_s = step_seconds(*full, past, chunk, rows, pool);
        const double landmark_s = step_seconds(landmark, past, chunk, rows, pool);
        report.row({{"past", past},
                    {"chunk", chunk},
                    {"rows", narrow ? "f16" : "f32"},
                    {"full_ms", full_s * 1e3},
                    {"landmark_ms", landmark_s * 1e3},
                    {"ratio", full_s / landmark_s}});
      }
    }
  }
}

}  // namespace
}  // namespace mneme::bench

int main(int argc, char** argv) {
  try {
    mneme::bench::Report report("landmark", argc, argv);
    mneme::bench::run(report);
    report.finish();
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 2;
  }
}
