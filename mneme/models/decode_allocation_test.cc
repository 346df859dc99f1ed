// A decode step allocates nothing: every operator new of this binary is counted.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "mneme/cache/memory_registry.h"
#include "mneme/kernels/row_page.h"
#include "mneme/models/head_edits.h"
#include "mneme/models/tiny_model_testing.h"

namespace {

std::atomic<int64_t> allocations{0};

void* counted(std::size_t bytes, std::size_t alignment) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  const std::size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, rounded == 0 ? alignment : rounded);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(std::size_t bytes) { return counted(bytes, alignof(std::max_align_t)); }
void* operator new[](std::size_t bytes) { return counted(bytes, alignof(std::max_align_t)); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return counted(bytes, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t bytes, std::align_val_t alignment) {
  return counted(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace mneme {
namespace {

using testing::TinyModel;

class DecodeAllocations : public ::testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Specs, DecodeAllocations,
                         ::testing::Values("full", "full(dtype=f32)", "full(dtype=bf16)",
                                           "q8(group=32)", "q4(group=32)",
                                           "sliding(window=20,sink=3)",
                                           "quest(page=16,budget=64,dense=1)"));

// The memory's own growth is the one exception: a new page for every layer and KV head where a page
// of 64 rows is full. Steps inside a page are counted, after one that had everything grow; rows lie in
// aligned_alloc's memory, whose growth by 16 rows is not.
TEST_P(DecodeAllocations, AStepInsideAPageAllocatesNothing) {
  TinyModel tiny;
  HeadEdits edits(tiny.model().config());
  edits.scale({1, 2}, 0.5f);
  edits.make_uniform(std::vector<HeadId>{{0, 1}});
  const std::vector<int32_t> tokens = tiny.tokens(2 * kPageRows);
  const auto memory = MemoryRegistry::builtin().build(GetParam(), tiny.model().memory_shape());
  for (const int threads : {1, 2}) {
    ThreadPool pool(threads);
    const ScopedHeadHooks hooks(tiny.model(), threads == 2 ? &edits : nullptr);
    const auto first = static_cast<size_t>(memory->length());
    for (size_t at = first; at < first + kPageRows; ++at) {
      const SequenceStep step{std::span(tokens).subspan(at, 1), memory.get(), Logits::kLast};
      const int64_t before = allocations.load();
      tiny.model().forward({&step, 1}, pool);
      const int64_t made = allocations.load() - before;
      if (at == first) {
        EXPECT_GT(made, 0) << "a new page is not counted: does the counter work?";
      } else {
        EXPECT_EQ(made, 0) << GetParam() << ", position " << at << ", " << threads << " threads";
      }
    }
  }
}

}  // namespace
}  // namespace mneme
