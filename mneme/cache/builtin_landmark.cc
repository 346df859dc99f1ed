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
           {{.name = "block",
             .fallback = "64",
             .min = 1,
             .max = 4096,
             .help = "positions of a block"},
            {.name = "top",
             .fallback = "4",
             .min = 1,
             .max = 1 << 20,
             .help = "older blocks that a query reads"},
            {.name = "window",
             .fallback = "256",
             .min = 1,
             .max = 1 << 20,
             .help = "newest positions it reads, its own included, and the rest of their block"},
            {.name = "select",
             .type = Type::kChoice,
             .fallback = "query",
             .choices = {"query", "heads"},
             .help =
                 "query: every query head has its own blocks; heads: all share the best of all"},
            {.name = "keep",
             .fallback = "0",
             .min = 0,
             .max = 1 << 30,
             .help = "older blocks that are kept, the newest ones; 0: all"},
            {.name = "store",
             .type = Type::kChoice,
             .fallback = "memory",
             .choices = {"memory", "disk"},
             .help = "disk: complete blocks lie in a mapped file that goes when the memory goes"},
            {.name = "folder",
             .type = Type::kText,
             .fallback = "system",
             .help = "where that file is made; system: TMPDIR, else the system's folder"}},
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
