#include "mneme/cache/builtin_alisa.h"

#include <limits>

#include "mneme/cache/alisa_memory.h"
#include "mneme/core/error.h"

namespace mneme {
namespace {

DType dtype_of(const RowFormat* format) {
  if (format == nullptr || format->encoding == RowEncoding::kF16) return DType::kF16;
  MNEME_CHECK(
      format->encoding == RowEncoding::kF32,
      "'alisa' keeps its fast tier as floats and quantises the slow one (slow=int8): join it "
      "with full(dtype=f16) or full(dtype=f32), or with no format");
  return DType::kF32;
}

AlisaOptions options_of(const Parameters& p) {
  const int64_t p1 = p.integer("p1"), p2 = p.integer("p2");
  return {.ratio = p.real("ratio"),
          .capacity = p.integer("capacity"),
          .schedule = {.alpha = p.real("alpha"),
                       .beta = p.real("beta"),
                       .p1 = std::max<int64_t>(0, p1),
                       .p2 = p2 < 0 ? std::numeric_limits<int64_t>::max() : p2},
          .p1_at_overflow = p1 < 0,
          .slow_bits = p.choice("slow") == "same"   ? 0
                       : p.choice("slow") == "int8" ? 8
                                                    : 4,
          .block = p.integer("block"),
          .in_file = p.choice("store") == "disk",
          .folder = p.text("folder") == "system" ? "" : p.text("folder")};
}

}  // namespace

void add_builtin_alisa(MemoryRegistry& registry) {
  registry.add(
      {.name = "alisa",
       .kind = "whole memory",
       .summary =
           "decoding reads the newest tokens and the older ones recent queries looked at; the rest "
           "waits in a slow tier, or is deleted and computed again",
       .paper = "ALISA: Sparsity-Aware KV Caching, ISCA 2024 (arXiv 2403.17312)",
       .state = "capacity tokens as f16 or f32, the others as int8 (store=disk: in a file), and a "
                "history of ratio * tokens / 2 queries with 4 bytes for every token each saw",
       .parameters =
           {ParameterInfo::real("ratio", "0.2", 1e-6, 1, "share of the tokens that a query reads"),
            ParameterInfo::integer(
                "capacity", "0", 0, 1 << 30,
                "tokens of every layer in the fast tier, in whole blocks; 0: all"),
            ParameterInfo::real("alpha", "0", 0, 1, "share of the tokens kept out of it"),
            ParameterInfo::real("beta", "0", 0, 1,
                                "share of those that is deleted from step p2 on"),
            ParameterInfo::integer("p1", "-1", -1, 1 << 30,
                                   "step from which tokens move; -1: when the fast tier is full"),
            ParameterInfo::integer("p2", "-1", -1, 1 << 30,
                                   "step from which tokens are deleted; -1: never"),
            ParameterInfo::choice("slow", "int8", {"int8", "int4", "same"},
                                  "how slow tokens are stored; same: as fast ones"),
            ParameterInfo::integer("block", "64", 1, 1 << 16, "tokens that move together"),
            ParameterInfo::choice("store", "memory", {"memory", "disk"},
                                  "disk: the slow tier is a mapped file that goes with the memory"),
            ParameterInfo::text(
                "folder", "system",
                "where that file is made; system: TMPDIR, else the system's folder")},
       .source = "mneme/cache/alisa_memory.h",
       .apply = [](const Parameters& parameters, MemoryParts& parts) {
         parts.whole = [parameters](std::string spec, const MemoryShape& shape,
                                    const RowFormat* format) -> std::unique_ptr<SequenceMemory> {
           AlisaOptions options = options_of(parameters);
           options.dtype = dtype_of(format);
           return std::make_unique<AlisaMemory>(std::move(spec), shape, std::move(options));
         };
       }});
}

}  // namespace mneme
