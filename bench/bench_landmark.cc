// Time of attention with a long past: the landmark memory (k fetched blocks and what is near) against
// the exact memory of the same rows, at a layer shaped like SmolLM2-135M's (docs/papers/39). Writing
// the rows is part of both. The landmark memory's answers are first compared with its definition.
//
//   bench_landmark [--json FILE] [--threads N]
#include <algorithm>
#include <vector>

#include "bench/bench.h"
#include "mneme/cache/landmark_memory.h"
#include "mneme/cache/landmark_testing.h"
#include "mneme/cache/memory_registry.h"
#include "mneme/core/error.h"
#include "mneme/core/half.h"
#include "mneme/core/thread_pool.h"

namespace mneme::bench {
namespace {

constexpr int64_t kRepeats = 9;
constexpr double kWorst = 1e-5;

void check(MemoryShape shape, const LandmarkOptions& options) {
  testing::LandmarkText text = testing::landmark_text(shape, 400, 1);
  if (options.dtype == DType::kF16) {
    // Of nearly equal blocks rounding fetches another: rows that f16 holds exactly, and not turned.
    shape.rotary.clear();
    for (float& value : text.k) value = f16_to_float(float_to_f16(value));
    for (float& value : text.v) value = f16_to_float(float_to_f16(value));
  }
  const std::vector<int64_t> steps = {64, 1, 200, 1, 134};
  LandmarkMemory memory("landmark tokens", shape, options);
  const double worst =
      testing::worst(testing::landmark_answers(memory, text, steps),
                     testing::NaiveLandmark(shape, memory.options(), text).answers(steps));
  MNEME_CHECK(worst <= kWorst, "bench_landmark: answers are ", worst,
              " from their definition, expected at most ", kWorst, ": no figures");
}

void attend(SequenceMemory& memory, const testing::LandmarkText& rows, std::vector<float>& out,
            ThreadPool& pool) {
  memory.attend({.q = rows.q.data(),
                 .k = rows.k.data(),
                 .v = rows.v.data(),
                 .scale = 0.125f,
                 .out = out.data()},
                pool);
  keep(out);
}

// Seconds that a step of `chunk` tokens takes a memory that holds `past`.
double step_seconds(SequenceMemory& memory, int64_t past, int64_t chunk,
                    const testing::LandmarkText& rows, ThreadPool& pool) {
  const MemoryShape& shape = memory.shape();
  std::vector<float> out(static_cast<size_t>(rows.tokens * shape.q_heads * shape.v_dim));
  for (int64_t done = 0; done < past; done += rows.tokens) {
    const int64_t count = std::min(rows.tokens, past - done);
    memory.begin(memory.plan(count));
    attend(memory, rows, out, pool);
    memory.commit();
  }
  const Timing timing = time_runs(kRepeats, [&] {
    memory.begin(memory.plan(chunk));
    attend(memory, rows, out, pool);
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
  const testing::LandmarkText rows = testing::landmark_text(shape, 512, 1);
  const auto options_for = [](DType dtype) {
    return LandmarkOptions{.block = 51, .top = 2, .dtype = dtype};
  };
  for (const DType dtype : {DType::kF32, DType::kF16}) check(shape, options_for(dtype));
  for (const int64_t past : {2048, 8192, 16384}) {
    for (const int64_t chunk : {1, 64}) {
      for (const DType dtype : {DType::kF32, DType::kF16}) {
        const bool narrow = dtype == DType::kF16;
        const auto full =
            MemoryRegistry::builtin().build(narrow ? "full(dtype=f16)" : "full(dtype=f32)", shape);
        LandmarkMemory landmark("landmark tokens", shape, options_for(dtype));
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
  return mneme::bench::report_main("landmark", argc, argv, mneme::bench::run);
}
