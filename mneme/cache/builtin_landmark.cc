#include "mneme/cache/builtin_landmark.h"

#include "mneme/cache/landmark_memory.h"
#include "mneme/core/error.h"

namespace mneme {
namespace {

using Type = ParameterInfo::Type;

DType dtype_of(const RowFormat* format) {
  if (format == nullptr || format->encoding == RowEncoding::kF16) return DType::kF16;
  MNEME_CHECK(
      format->encoding == RowEncoding::kF32,
      "'landmark' keeps rows as floats: join it with full(dtype=f16) or full(dtype=f32), or "
      "with no format");
  return DType::kF32;
}

LandmarkOptions options_of(const Parameters& p) {
  return {.landmark = LandmarkOptions::Landmark::kMean,
          .block = p.integer("block"),
          .top = p.integer("top"),
          .selection = p.choice("select") == "query" ? LandmarkSelection::kPerTokenAndHead
                                                     : LandmarkSelection::kMaxOverHeads,
          .window = p.integer("window"),
          .blocks = p.integer("keep"),
          .in_file = p.choice("store") == "disk",
          .folder = p.text("folder") == "system" ? "" : p.text("folder")};
}

}  // namespace

void add_builtin_landmark(MemoryRegistry& registry) {
  registry.add(
      {.name = "landmark",
       .kind = "whole memory",
       .summary =
           "the newest positions and the few older blocks whose mean key a query likes best: "
           "a heuristic, without landmark tokens or training for them",
       .paper = "after Landmark Attention, NeurIPS 2023 (arXiv 2305.16300), which trains the model",
       .state =
           "every row as f16 or f32 (store=disk: in a file), and a float32 key for every block "
           "and KV head",
       .parameters =
           {ParameterInfo::integer("block", "64", 1, 4096, "positions of a block"),
            ParameterInfo::integer("top", "4", 1, 1 << 20, "older blocks that a query reads"),
            ParameterInfo::integer(
                "window", "256", 1, 1 << 20,
                "newest positions it reads, its own included, and the rest of their block"),
            ParameterInfo::choice(
                "select", "query", {"query", "heads"},
                "query: every query head has its own blocks; heads: all share the best of all"),
            ParameterInfo::integer("keep", "0", 0, 1 << 30,
                                   "older blocks that are kept, the newest ones; 0: all"),
            ParameterInfo::choice(
                "store", "memory", {"memory", "disk"},
                "disk: complete blocks lie in a mapped file that goes when the memory goes"),
            ParameterInfo::text(
                "folder", "system",
                "where that file is made; system: TMPDIR, else the system's folder")},
       .source = "mneme/cache/landmark_memory.h",
       .apply = [](const Parameters& parameters, MemoryParts& parts) {
         parts.whole = [parameters](std::string spec, const MemoryShape& shape,
                                    const RowFormat* format) -> std::unique_ptr<SequenceMemory> {
           LandmarkOptions options = options_of(parameters);
           options.dtype = dtype_of(format);
           return std::make_unique<LandmarkMemory>(std::move(spec), shape, std::move(options));
         };
       }});
}

}  // namespace mneme
