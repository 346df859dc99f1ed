// Bytes: what `mneme plan` predicts, what the memory says it holds, and what the allocator really
// handed out, for every memory at 512, 4,096 and 8,192 tokens of a model shaped like SmolLM2-135M
// (30 layers, 3 KV heads of 64). Ratios are to the same rows as f16.
//
//   bench_memory [--json FILE]
#include <malloc.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "bench/bench.h"
#include "mneme/cache/memory_registry.h"
#include "mneme/core/error.h"
#include "mneme/core/rng.h"
#include "mneme/core/thread_pool.h"

namespace mneme::bench {
namespace {

constexpr int64_t kHeads = 3;
constexpr int64_t kDim = 64;
constexpr int64_t kChunk = 512;
constexpr double kLargestError = 0.02;

// Bytes that are allocated and not freed, small blocks and mapped ones.
int64_t allocated_bytes() {
  const struct mallinfo2 info = mallinfo2();
  return static_cast<int64_t>(info.uordblks + info.hblkhd);
}

// Writes `tokens` positions of random rows; queries are few, bytes do not depend on them.
void fill(SequenceMemory& memory, int64_t tokens, ThreadPool& pool) {
  Rng rng(1);
  std::vector<float> rows(static_cast<size_t>(kChunk * kHeads * kDim));
  for (float& value : rows) value = static_cast<float>(rng.normal());
  std::vector<float> out(rows.size());
  for (int64_t done = 0; done < tokens; done += kChunk) {
    memory.begin(memory.plan(std::min(kChunk, tokens - done)));
    for (int64_t layer = 0; layer < memory.shape().layers(); ++layer) {
      memory.attend({.layer = layer,
                     .q = rows.data(),
                     .k = rows.data(),
                     .v = rows.data(),
                     .scale = 0.125f,
                     .out = out.data()},
                    pool);
    }
    memory.commit();
  }
}

void run(Report& report) {
  const MemoryShape shape = {.q_heads = kHeads,
                             .kv_heads = kHeads,
                             .k_dim = kDim,
                             .v_dim = kDim,
                             .context = 8192,
                             .windows = std::vector<int64_t>(30, 0)};
  const auto& registry = MemoryRegistry::builtin();
  ThreadPool pool(report.threads());
  {  // so that growing scratch is not counted as memory
    fill(*registry.build("q4", shape), kChunk, pool);
  }
  constexpr std::array kSpecs = {"full(dtype=f32)",
                                 "full",
                                 "full(dtype=bf16)",
                                 "q8",
                                 "q4",
                                 "sliding(window=512,sink=4)",
                                 "sliding(window=512,sink=4)+q4"};
  for (const char* spec : kSpecs) {
    for (const int64_t tokens : {512, 4096, 8192}) {
      const int64_t before = allocated_bytes();
      const auto memory = registry.build(spec, shape);
      fill(*memory, tokens, pool);
      const int64_t allocated = allocated_bytes() - before;
      const int64_t predicted = memory->predict_bytes(tokens);
      const int64_t resident = memory->resident_bytes();
      const double error =
          std::abs(static_cast<double>(predicted - allocated)) / static_cast<double>(allocated);
      MNEME_CHECK(predicted == resident && error <= kLargestError, "bench_memory: ", spec, " at ",
                  tokens, " tokens: predicted ", predicted, ", held ", resident, ", allocated ",
                  allocated, ": no figures");
      report.row({{"memory", memory->spec()},
                  {"tokens", tokens},
                  {"predicted_bytes", predicted},
                  {"resident_bytes", resident},
                  {"allocated_bytes", allocated},
                  {"error", error},
                  {"share_of_f16",
                   static_cast<double>(resident) / static_cast<double>(memory->logical_bytes())}});
    }
  }
}

}  // namespace
}  // namespace mneme::bench

int main(int argc, char** argv) {
  return mneme::bench::report_main("memory", argc, argv, mneme::bench::run);
}
