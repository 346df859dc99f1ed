// Uses the installed package without any model: builds a memory from its spec string, writes rows
// and asks it a query, saves it, loads it again and sees the same answer.
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "mneme/cache/memory_file.h"
#include "mneme/cache/memory_registry.h"
#include "mneme/core/error.h"
#include "mneme/core/rng.h"
#include "mneme/core/thread_pool.h"

namespace {

std::vector<float> random_rows(int64_t floats, mneme::Rng& rng) {
  std::vector<float> values(static_cast<size_t>(floats));
  for (float& value : values) value = static_cast<float>(rng.normal());
  return values;
}

// One step of `tokens` positions: plan, begin, every layer, commit. Returns the last layer's
// answers, [tokens, q_heads, v_dim].
std::vector<float> step(mneme::SequenceMemory& memory, int64_t tokens, uint64_t seed,
                        mneme::ThreadPool& pool) {
  const mneme::MemoryShape& shape = memory.shape();
  mneme::Rng rng(seed);
  std::vector<float> out(static_cast<size_t>(tokens * shape.q_heads * shape.v_dim));
  memory.begin(memory.plan(tokens));
  for (int64_t layer = 0; layer < shape.layers(); ++layer) {
    const std::vector<float> q = random_rows(tokens * shape.q_heads * shape.k_dim, rng);
    const std::vector<float> k = random_rows(tokens * shape.kv_heads * shape.k_dim, rng);
    const std::vector<float> v = random_rows(tokens * shape.kv_heads * shape.v_dim, rng);
    memory.attend({.layer = layer,
                   .q = q.data(),
                   .k = k.data(),
                   .v = v.data(),
                   .scale = 0.125f,
                   .out = out.data()},
                  pool);
  }
  memory.commit();
  return out;
}

void run(const std::string& path) {
  mneme::ThreadPool pool;
  const mneme::MemoryShape shape = {
      .q_heads = 9, .kv_heads = 3, .k_dim = 64, .v_dim = 64, .context = 8192, .windows = {0, 0}};
  const mneme::MemoryIdentity identity = {"example", "none", "none"};
  const auto& registry = mneme::MemoryRegistry::builtin();

  const auto memory = registry.build("sliding(window=512,sink=4)+q8", shape);
  step(*memory, 1000, 1, pool);
  std::printf("%s after %lld tokens: %lld bytes held, %lld as an f16 cache\n",
              memory->spec().c_str(), static_cast<long long>(memory->length()),
              static_cast<long long>(memory->resident_bytes()),
              static_cast<long long>(memory->logical_bytes()));

  mneme::save_memory(path, *memory, std::vector<int32_t>(1000, 0), identity);
  const mneme::LoadedMemory loaded = mneme::load_memory(path, registry, shape, identity);
  MNEME_CHECK(step(*loaded.memory, 1, 2, pool) == step(*memory, 1, 2, pool),
              "consumer: the loaded memory answers otherwise");
  std::printf("%s: saved, loaded, same answer\n", path.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: consumer FILE.safetensors\n");
    return 2;
  }
  try {
    run(argv[1]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
  return 0;
}
