#include "mneme/cache/builtin_policies.h"

#include <algorithm>
#include <charconv>

#include "mneme/cache/policy/cake.h"
#include "mneme/cache/policy/delta.h"
#include "mneme/cache/policy/flux.h"
#include "mneme/cache/policy/gemfilter.h"
#include "mneme/cache/policy/h2o.h"
#include "mneme/cache/policy/hylra.h"
#include "mneme/cache/policy/quest.h"
#include "mneme/cache/policy/retrieval_heads.h"
#include "mneme/cache/policy/simple_scores.h"
#include "mneme/cache/policy/sliding.h"
#include "mneme/cache/policy/snapkv.h"
#include "mneme/cache/policy/tova.h"

#include "mneme/core/error.h"

namespace mneme {
namespace {

// budget and rows stand side by side: rows count where they are given.
std::vector<ParameterInfo> with_budget(std::vector<ParameterInfo> own = {}) {
  std::vector<ParameterInfo> all = {
      ParameterInfo::real("budget", "0.2", 0, 1,
                          "share of a text's rows that a layer keeps, on average"),
      ParameterInfo::integer("rows", "0", 0, 1 << 30,
                             "that many rows instead; 0: the share counts")};
  all.insert(all.end(), own.begin(), own.end());
  return all;
}

RowBudget budget_of(const Parameters& parameters) {
  const int64_t rows = parameters.integer("rows");
  return {.share = rows > 0 ? 0 : parameters.real("budget"), .rows = rows};
}

// "0:1:15" -> {0, 1, 15}; `nothing` -> {}. Throws Error on anything else.
std::vector<int64_t> numbers_of(const Parameters& parameters, const char* name,
                                std::string_view nothing) {
  const std::string& value = parameters.text(name);
  std::vector<int64_t> numbers;
  if (value == nothing) return numbers;
  for (size_t at = 0; at <= value.size();) {
    const size_t end = std::min(value.find(':', at), value.size());
    int64_t number = 0;
    const auto [stop, error] = std::from_chars(value.data() + at, value.data() + end, number);
    MNEME_CHECK(error == std::errc() && stop == value.data() + end, "'", name, "' must be '",
                nothing, "' or whole numbers joined by ':', as 0:1:15; got '", value, "'");
    numbers.push_back(number);
    at = end + 1;
  }
  return numbers;
}

// A policy built from a shape and its parameters.
template <typename Make>
std::function<void(const Parameters&, MemoryParts&)> policy(Make make) {
  return [make](const Parameters& parameters, MemoryParts& parts) {
    parts.policy = [make, parameters](const MemoryShape& shape) { return make(shape, parameters); };
  };
}

// An entry of a policy that cuts layers when a text ends. `state` is the same for all of them.
MemoryEntry eviction(const char* name, const char* summary, const char* paper,
                     std::vector<ParameterInfo> own, const char* source,
                     std::function<void(const Parameters&, MemoryParts&)> apply) {
  return {.name = name,
          .kind = "row policy",
          .summary = summary,
          .paper = paper,
          .state = "budget * tokens rows in every layer, in pages of 64, and their positions",
          .parameters = with_budget(std::move(own)),
          .source = source,
          .apply = std::move(apply)};
}

MemoryEntry sliding() {
  return {
      .name = "sliding",
      .kind = "row policy",
      .summary = "the newest positions and the first few; goes on past the trained context",
      .paper = "Efficient Streaming Language Models with Attention Sinks, 2023 (arXiv 2309.17453)",
      .state = "rows of min(tokens, window + sink), in pages of 64",
      .parameters = {ParameterInfo::integer("window", "512", 1, 1 << 30,
                                            "newest positions a query sees, its own included"),
                     ParameterInfo::integer("sink", "4", 0, 1 << 20,
                                            "first positions that are always seen")},
      .source = "mneme/cache/policy/sliding.h",
      .apply = policy([](const MemoryShape& shape, const Parameters& p) {
        return std::make_unique<Sliding>(shape, p.integer("window"), p.integer("sink"));
      })};
}

MemoryEntry cake() {
  return eviction(
      "cake",
      "one budget for the model: layers share it by how wide and how unsteady their attention is",
      "CAKE: Cascading and Adaptive KV Cache Eviction with Layer Preferences, ICLR 2025",
      {ParameterInfo::integer("window", "32", 2, 1 << 20,
                              "newest rows that judge the others and always stay"),
       ParameterInfo::real("gamma", "200", -1e6, 1e6,
                           "worth of a row's variance against its mean weight"),
       ParameterInfo::real("tau1", "1", 1e-3, 1e3, "1/tau1 is the exponent of a layer's entropy"),
       ParameterInfo::real("tau2", "1", 1e-3, 1e3, "1/tau2 is the exponent of its variance"),
       ParameterInfo::integer("pool", "5", 1, 999, "neighbours scores are averaged over, odd"),
       ParameterInfo::choice(
           "cascade", "on", {"on", "off"},
           "on: layers are cut while later ones are computed; off: once, at the end"),
       ParameterInfo::choice("order", "position", {"position", "score"},
                             "what lies beside what when scores are averaged while decoding")},
      "mneme/cache/policy/cake.h", policy([](const MemoryShape& shape, const Parameters& p) {
        return std::make_unique<Cake>(shape,
                                      CakeOptions{.budget = budget_of(p),
                                                  .window = p.integer("window"),
                                                  .gamma = p.real("gamma"),
                                                  .tau1 = p.real("tau1"),
                                                  .tau2 = p.real("tau2"),
                                                  .pool = p.integer("pool"),
                                                  .cascading = p.choice("cascade") == "on",
                                                  .score_order = p.choice("order") == "score"});
      }));
}

MemoryEntry snapkv(bool pyramid) {
  std::vector<ParameterInfo> own = {
      ParameterInfo::integer("window", "32", 1, 1 << 20,
                             "newest rows that judge the others and always stay"),
      ParameterInfo::integer("pool", "5", 1, 999, "neighbours scores are averaged over, odd")};
  if (pyramid)
    own.push_back(ParameterInfo::integer("steepness", "20", 1, 1 << 20,
                                         "the highest layer keeps 1/steepness of the average"));
  return eviction(
      pyramid ? "pyramidkv" : "snapkv",
      pyramid ? "as snapkv, with more rows in lower layers and fewer in higher ones"
              : "the rows that a text's last queries look at most",
      pyramid
          ? "PyramidKV: Dynamic KV Cache Compression, 2024 (arXiv 2406.02069)"
          : "SnapKV: LLM Knows What You are Looking for Before Generation, 2024 (arXiv 2404.14469)",
      std::move(own), "mneme/cache/policy/snapkv.h",
      policy([pyramid](const MemoryShape& shape, const Parameters& p) {
        return std::make_unique<SnapKv>(shape,
                                        EvictionOptions{.name = pyramid ? "pyramidkv" : "snapkv",
                                                        .budget = budget_of(p),
                                                        .window = p.integer("window")},
                                        p.integer("pool"), pyramid ? p.integer("steepness") : 0);
      }));
}

MemoryEntry h2o() {
  return eviction(
      "h2o", "half the newest rows, half those that drew most attention so far",
      "H2O: Heavy-Hitter Oracle for Efficient Generative Inference, 2023 (arXiv 2306.14048)", {},
      "mneme/cache/policy/h2o.h", policy([](const MemoryShape& shape, const Parameters& p) {
        return std::make_unique<H2o>(shape, EvictionOptions{.name = "h2o", .budget = budget_of(p)});
      }));
}

MemoryEntry tova() {
  return eviction("tova", "the rows that the newest query looks at most, the same in every head",
                  "Transformers are Multi-State RNNs, 2024 (arXiv 2401.06104)", {},
                  "mneme/cache/policy/tova.h",
                  policy([](const MemoryShape& shape, const Parameters& p) {
                    return std::make_unique<Tova>(
                        shape, EvictionOptions{.name = "tova", .budget = budget_of(p)});
                  }));
}

MemoryEntry knorm() {
  return eviction("knorm", "the rows with the shortest keys",
                  "A Simple and Effective L2 Norm-Based Strategy for KV Cache Compression, 2024 "
                  "(arXiv 2406.11430)",
                  {}, "mneme/cache/policy/simple_scores.h",
                  policy([](const MemoryShape& shape, const Parameters& p) {
                    return std::make_unique<Knorm>(
                        shape, EvictionOptions{.name = "knorm", .budget = budget_of(p)});
                  }));
}

MemoryEntry random_rows() {
  return eviction("random", "rows drawn at random: what any score has to beat", "baseline",
                  {ParameterInfo::integer("seed", "1", 0, 1 << 30, "of the draws")},
                  "mneme/cache/policy/simple_scores.h",
                  policy([](const MemoryShape& shape, const Parameters& p) {
                    return std::make_unique<RandomRows>(
                        shape, EvictionOptions{.name = "random", .budget = budget_of(p)},
                        p.integer("seed"));
                  }));
}

MemoryEntry streaming() {
  return eviction(
      "streaming", "the first rows and the newest, as many as the budget allows",
      "Efficient Streaming Language Models with Attention Sinks, 2023 (arXiv 2309.17453)",
      {ParameterInfo::integer("sink", "4", 0, 1 << 20, "first rows that always stay")},
      "mneme/cache/policy/simple_scores.h",
      policy([](const MemoryShape& shape, const Parameters& p) {
        return std::make_unique<NewestRows>(
            shape, EvictionOptions{
                       .name = "streaming", .budget = budget_of(p), .sink = p.integer("sink")});
      }));
}

constexpr const char* kEverything = "every row in every layer: it saves reading, not bytes";

MemoryEntry delta() {
  return {
      .name = "delta",
      .kind = "row policy",
      .summary = "keeps all; most layers read a few pages that a few layers choose, token by token",
      .paper = "DELTA: Dynamic Layer-Aware Token Attention, 2025 (arXiv 2510.09883)",
      .state = kEverything,
      .parameters = {ParameterInfo::text("layers", "auto",
                                         "full layers, as 0:1:2:15:23; auto: by depth"),
                     ParameterInfo::integer("page", "64", 1, 1 << 20, "rows of a page"),
                     ParameterInfo::integer("pages", "16", 1, 1 << 30,
                                            "pages a sparse layer reads"),
                     ParameterInfo::integer("recent", "2", 0, 1 << 20, "newest pages among them")},
      .source = "mneme/cache/policy/delta.h",
      .apply = policy([](const MemoryShape& shape, const Parameters& p) {
        return std::make_unique<Delta>(shape,
                                       DeltaOptions{.full_layers = numbers_of(p, "layers", "auto"),
                                                    .page = p.integer("page"),
                                                    .pages = p.integer("pages"),
                                                    .recent = p.integer("recent")});
      })};
}

MemoryEntry quest() {
  return {
      .name = "quest",
      .kind = "row policy",
      .summary = "keeps all; each head reads the pages whose keys could match its queries best",
      .paper = "Quest: Query-Aware Sparsity for Long-Context Inference, 2024 (arXiv 2406.10774)",
      .state =
          "every row in every layer and, but in dense ones, two float32 keys for every page: it "
          "saves reading, not bytes",
      .parameters = {ParameterInfo::integer("page", "16", 1, 1 << 20, "rows of a page"),
                     ParameterInfo::integer("budget", "1024", 1, 1 << 30,
                                            "rows a KV head reads for a token, in whole pages"),
                     ParameterInfo::integer("dense", "2", 0, 1 << 20,
                                            "first layers that read everything")},
      .source = "mneme/cache/policy/quest.h",
      .apply = policy([](const MemoryShape& shape, const Parameters& p) {
        return std::make_unique<Quest>(shape, QuestOptions{.page = p.integer("page"),
                                                           .budget = p.integer("budget"),
                                                           .dense = p.integer("dense")});
      })};
}

MemoryEntry hylra() {
  return {
      .name = "hylra",
      .kind = "row policy",
      .summary = "keeps all; some layers attend in full, the others read the blocks those chose",
      .paper = "HyLRA: Hybrid Layer Reuse Attention, 2026 (arXiv 2602.00777)",
      .state = kEverything,
      .parameters =
          {ParameterInfo::text("profile", "none",
                               "file of `mneme profile hylra`: which layer reads whose blocks"),
           ParameterInfo::text("plan", "guess",
                               "the same by hand: -1 or a layer for each layer, as -1:0:-1:2"),
           ParameterInfo::integer("block", "64", 1, 1 << 20, "rows of a block"),
           ParameterInfo::integer("blocks", "16", 1, 1 << 30, "blocks a reading layer reads"),
           ParameterInfo::integer("sink", "1", 0, 1 << 20, "first blocks among them"),
           ParameterInfo::integer("recent", "2", 1, 1 << 20, "newest blocks among them")},
      .source = "mneme/cache/policy/hylra.h",
      .apply = policy([](const MemoryShape& shape, const Parameters& p) {
        HylraOptions options{.plan = numbers_of(p, "plan", "guess"),
                             .block = p.integer("block"),
                             .blocks = p.integer("blocks"),
                             .sink = p.integer("sink"),
                             .recent = p.integer("recent")};
        if (p.text("profile") != "none") {
          MNEME_CHECK(options.plan.empty(), "hylra: a profile and a plan, expected one of them");
          options.plan = read_hylra_plan(p.text("profile"), shape.model_fingerprint);
        }
        return std::make_unique<Hylra>(shape, options);
      })};
}

MemoryEntry gemfilter() {
  return {
      .name = "gemfilter",
      .kind = "prompt filter",
      .summary = "an early layer picks the prompt's tokens, the model reads only those",
      .paper = "Discovering the Gems in Early Layers, 2024 (arXiv 2409.17422)",
      .state = "of the tokens kept, in whatever the rest of the spec stores them",
      .parameters =
          {ParameterInfo::integer("layer", "-1", -1, 1 << 20,
                                  "the picking layer; -1: the one nearest to 0.42 of the depth"),
           ParameterInfo::integer("keep", "1024", 1, 1 << 30, "tokens kept"),
           ParameterInfo::real("budget", "0", 0, 1,
                               "share of the prompt's tokens instead; 0: keep counts"),
           ParameterInfo::integer("pool", "5", 1, 999, "neighbours scores are averaged over, odd"),
           ParameterInfo::integer("first", "0", 0, 1 << 20, "first tokens that always stay"),
           ParameterInfo::integer("last", "0", 0, 1 << 20, "last tokens that always stay"),
           ParameterInfo::choice(
               "score", "product", {"product", "softmax"},
               "what is summed over heads: raw products, as the paper, or weights")},
      .source = "mneme/cache/policy/gemfilter.h",
      .apply = [](const Parameters& p, MemoryParts& parts) {
        const double budget = p.real("budget");
        const GemFilterOptions options{
            .layer = p.integer("layer"),
            .keep = budget > 0 ? RowBudget{.share = budget} : RowBudget{.rows = p.integer("keep")},
            .pool = p.integer("pool"),
            .force_first = p.integer("first"),
            .force_last = p.integer("last"),
            .softmax = p.choice("score") == "softmax"};
        parts.filter = [options](const MemoryShape& shape) {
          return std::make_shared<GemFilter>(shape, options);
        };
      }};
}

MemoryEntry flux() {
  return {
      .name = "flux",
      .kind = "row policy",
      .summary =
          "trained routers choose per prompt which layers read everything and which "
          "only the first and newest blocks",
      .paper = "Flux Attention: Context-Aware Hybrid Attention, 2026 (arXiv 2604.07394)",
      .state =
          "in layers that stream rows of min(tokens, sink + window + block), in pages of "
          "64; all rows in the others",
      .parameters =
          {ParameterInfo::text("routers", "full",
                               "a file of trained routers, by their official names; full or "
                               "sparse: that for every layer"),
           ParameterInfo::integer("sink", "128", 1, 1 << 20,
                                  "first positions that are always seen"),
           ParameterInfo::integer("window", "1024", 1, 1 << 30, "newest positions that are seen"),
           ParameterInfo::integer("block", "128", 1, 1 << 20, "sink and window are whole blocks"),
           ParameterInfo::integer("pool", "100", 1, 1 << 20,
                                  "queries at each end of the prompt that routers look at")},
      .source = "mneme/cache/policy/flux.h",
      .apply = policy([](const MemoryShape& shape, const Parameters& p) {
        return std::make_unique<Flux>(shape, FluxOptions{.routers = p.text("routers"),
                                                         .sink = p.integer("sink"),
                                                         .window = p.integer("window"),
                                                         .block = p.integer("block"),
                                                         .pool = p.integer("pool")});
      })};
}

MemoryEntry retrieval_heads() {
  return {.name = "retrieval-heads",
          .kind = "row policy",
          .summary =
              "everything for the heads that copy from far back, the first and newest "
              "positions for the others",
          .paper =
              "Retrieval Head Mechanistically Explains Long-Context Factuality, 2024 (arXiv "
              "2404.15574)",
          .state =
              "rows of min(tokens, window + sink), in pages of 64; all rows in KV heads with "
              "a retrieval head",
          .parameters =
              {ParameterInfo::text("file", "none",
                                   "head scores (`mneme heads retrieval --out`); none: no head "
                                   "retrieves"),
               ParameterInfo::real("share", "0.1", 0, 1,
                                   "of the model's query heads that count as retrieval heads"),
               ParameterInfo::integer("window", "256", 1, 1 << 30,
                                      "newest positions that the other heads see"),
               ParameterInfo::integer("sink", "4", 0, 1 << 20, "first positions that they see")},
          .source = "mneme/cache/policy/retrieval_heads.h",
          .apply = policy([](const MemoryShape& shape, const Parameters& p) {
            return std::make_unique<RetrievalHeadsPolicy>(
                shape, RetrievalHeadsOptions{.file = p.text("file"),
                                             .share = p.real("share"),
                                             .window = p.integer("window"),
                                             .sink = p.integer("sink")});
          })};
}

}  // namespace

void add_builtin_policies(MemoryRegistry& registry) {
  registry.add(sliding());
  registry.add(cake());
  registry.add(snapkv(false));
  registry.add(snapkv(true));
  registry.add(h2o());
  registry.add(tova());
  registry.add(knorm());
  registry.add(streaming());
  registry.add(random_rows());
  registry.add(quest());
  registry.add(delta());
  registry.add(hylra());
  registry.add(gemfilter());
  registry.add(flux());
  registry.add(retrieval_heads());
}

}  // namespace mneme
