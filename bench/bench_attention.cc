// Paged attention of SmolLM2's shape (9 query heads over 3 KV heads of 64) beside the machine's
// limits: prefill against the FMA peak, decode against the read bandwidth. Decode walks the pages
// of 30 layers in turn, as a model does, so that rows come from memory and not from a cache. Both
// are first compared with the plain double loop.
#include <cmath>

#include "bench/bench.h"
#include "mneme/kernels/attention_testing.h"
#include "mneme/kernels/paged_attention.h"

namespace mneme::bench {
namespace {

constexpr int64_t kQueryHeads = 9, kKvHeads = 3, kDim = 64, kLayers = 30;

using Heads = std::vector<std::span<const PageView>>;

struct Call {
  PagedAttention config;
  std::vector<float> q, out;
  AttentionScratch scratch;

  Call(RowEncoding encoding, int64_t queries, Rng& rng)
      : config{{encoding, kDim, kDim}, kQueryHeads, kKvHeads, 0.125f},
        q(testing::normals(rng, queries * kQueryHeads * kDim)),
        out(q.size()) {}

  void run(int64_t queries, int64_t first, const Heads& heads, ThreadPool& pool) {
    paged_attention(config, queries, first, q.data(), heads, out.data(), scratch, pool);
  }

  // Throws unless the first `queries` answers are those of the definition.
  void check(int64_t queries, int64_t first, const Heads& heads) {
    const std::vector<double> want =
        testing::naive_attention<double>(config, queries, first, q.data(), heads);
    for (size_t i = 0; i < want.size(); ++i) {
      MNEME_CHECK(std::abs(want[i] - out[i]) <= 2e-5, "bench_attention: value ", i, " is ", out[i],
                  ", expected ", want[i]);
    }
  }
};

void prefill(RowEncoding encoding, int64_t tokens, ThreadPool& pool, Report& report) {
  Rng rng(1);
  Call call(encoding, tokens, rng);
  testing::PagedRows rows(call.config.format, kKvHeads);
  rows.fill(tokens, rng);
  const Heads heads = rows.views();
  call.run(tokens, 0, heads, pool);
  call.check(std::min<int64_t>(tokens, 100), 0, heads);
  const Timing time = time_runs(tokens > 4096 ? 3 : 7, [&] { call.run(tokens, 0, heads, pool); });
  const auto n = static_cast<double>(tokens);
  const double gflops = 4.0 * kDim * kQueryHeads * n * (n + 1) / 2 / time.median_s / 1e9;
  report.row({{"what", "prefill"},
              {"rows", tokens},
              {"encoding", row_encoding_name(encoding)},
              {"ms", time.median_s * 1e3},
              {"gflops", gflops},
              {"of_limit", gflops / report.limits().fma_gflops}});
}

void decode(RowEncoding encoding, int64_t count, ThreadPool& pool, Report& report) {
  Rng rng(2);
  Call call(encoding, 1, rng);
  std::vector<testing::PagedRows> layers(kLayers, testing::PagedRows(call.config.format, kKvHeads));
  std::vector<Heads> heads;
  for (size_t layer = 0; layer < layers.size(); ++layer) {
    if (layer == 0) {
      layers[layer].fill(count, rng);
    } else {
      layers[layer] = layers[0];
    }
    heads.push_back(layers[layer].views());
  }
  call.run(1, count - 1, heads[7], pool);
  call.check(1, count - 1, heads[7]);
  const Timing time = time_runs(9, [&] {
    for (const Heads& layer : heads) call.run(1, count - 1, layer, pool);
  });
  const double bytes =
      static_cast<double>(call.config.format.row_bytes() * count * kKvHeads * kLayers);
  const double rate = bytes / time.median_s / 1e9;
  report.row({{"what", "decode"},
              {"rows", count},
              {"encoding", row_encoding_name(encoding)},
              {"ms", time.median_s * 1e3},
              {"gb_per_s", rate},
              {"of_limit", rate / report.limits().read_gb_per_s}});
}

}  // namespace
}  // namespace mneme::bench

int main(int argc, char** argv) {
  using namespace mneme;
  try {
    bench::Report report("attention", argc, argv);
    ThreadPool pool(report.threads());
    for (const int64_t tokens : {512, 2048, 8192}) {
      for (const RowEncoding encoding : {RowEncoding::kF16, RowEncoding::kQ8, RowEncoding::kQ4}) {
        bench::prefill(encoding, tokens, pool, report);
      }
    }
    for (const int64_t rows : {512, 8192}) {
      for (const RowEncoding encoding : {RowEncoding::kF32, RowEncoding::kF16, RowEncoding::kBF16,
                                         RowEncoding::kQ8, RowEncoding::kQ4}) {
        bench::decode(encoding, rows, pool, report);
      }
    }
    report.finish();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
