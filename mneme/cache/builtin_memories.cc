// The row formats of this library, one block each. Order is the order of `mneme list`; policies
// follow (builtin_policies.h).
#include "mneme/cache/builtin_alisa.h"
#include "mneme/cache/builtin_landmark.h"
#include "mneme/cache/builtin_policies.h"
#include "mneme/cache/memory_registry.h"

namespace mneme {
namespace {

ParameterInfo group_parameter() {
  return ParameterInfo::choice("group", "64", {"32", "64", "128"},
                               "elements of the head dimension that share scale and bias");
}

ParameterInfo rotate_parameter(const char* fallback) {
  return ParameterInfo::choice(
      "rotate", fallback, {"none", "hadamard"},
      "hadamard: turn queries and keys alike before keys are quantised, which spreads "
      "outlying channels and changes no score");
}

ParameterInfo fit_parameter(const char* fallback) {
  return ParameterInfo::choice(
      "fit", fallback, {"edges", "squares"},
      "how codes are made; edges: the paper's rule; squares: least squares, a smaller "
      "error from the same bytes");
}

// q4(rotate=none,fit=edges) and q8 are the paper's formats to the bit.
MemoryEntry quantised(const char* name, RowEncoding encoding, const char* summary,
                      const char* state, const char* rotate, const char* fit) {
  return {.name = name,
          .kind = "row format",
          .summary = summary,
          .paper = "Agent Memory Below the Prompt, 2026 (arXiv 2603.04428)",
          .state = state,
          .parameters = {group_parameter(), rotate_parameter(rotate), fit_parameter(fit)},
          .source = "mneme/kernels/row_page.h",
          .apply = [encoding](const Parameters& parameters, MemoryParts& parts) {
            parts.format = RowFormat{.encoding = encoding,
                                     .group = std::stoll(parameters.choice("group")),
                                     .fitted = parameters.choice("fit") == "squares"};
            parts.rotate_keys = parameters.choice("rotate") == "hadamard";
          }};
}

MemoryRegistry make_builtin() {
  MemoryRegistry registry;
  registry.add(
      {.name = "full",
       .kind = "row format",
       .summary = "every key and value, as floats: the exact baseline",
       .paper = "FlashAttention-2, 2023 (arXiv 2307.08691)",
       .state = "2 * layers * kv_heads * head_dim * tokens * sizeof(dtype)",
       .parameters = {ParameterInfo::choice("dtype", "f16", {"f32", "f16", "bf16"},
                                            "how rows are stored; arithmetic is always float32")},
       .source = "mneme/cache/paged_memory.h",
       .apply = [](const Parameters& parameters, MemoryParts& parts) {
         const std::string& dtype = parameters.choice("dtype");
         parts.format = RowFormat{.encoding = dtype == "f32"   ? RowEncoding::kF32
                                              : dtype == "f16" ? RowEncoding::kF16
                                                               : RowEncoding::kBF16};
       }});
  registry.add(quantised("q8", RowEncoding::kQ8, "every key and value in 8 bits, affine groups",
                         "2 * layers * kv_heads * head_dim * tokens * (1 + 4 / group)", "none",
                         "edges"));
  registry.add(quantised("q4", RowEncoding::kQ4, "every key and value in 4 bits, affine groups",
                         "2 * layers * kv_heads * head_dim * tokens * (1/2 + 4 / group)",
                         "hadamard", "squares"));
  add_builtin_policies(registry);
  registry.add(
      {.name = "rerotate",
       .kind = "row positions",
       .summary = "beside a policy: rows that are left close ranks, so that texts go on past the "
                  "trained context",
       .paper = "Efficient Streaming Language Models with Attention Sinks, 2023 (arXiv 2309.17453)",
       .state = "nothing of its own",
       .parameters = {},
       .source = "mneme/cache/paged_memory_rerotate.cc",
       .apply = [](const Parameters&, MemoryParts& parts) { parts.rerotate = true; }});
  add_builtin_landmark(registry);
  add_builtin_alisa(registry);
  return registry;
}

}  // namespace

const MemoryRegistry& MemoryRegistry::builtin() {
  static const MemoryRegistry registry = make_builtin();
  return registry;
}

}  // namespace mneme
