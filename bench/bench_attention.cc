// Paged attention beside the machine's limits: prefill in SmolLM2's shape (9 query heads over 3 KV
// heads of 64) against the FMA peak; decode in that shape and in Gemma 3's (4 query heads over one
// KV head of 256), in bytes of rows, against the bandwidths measured around it. Decode walks the
// pages of all layers in turn, as a model does, so that rows come from memory and not from a cache;
// encodings take turns within a round, and ratios are medians over the rounds. Everything is first
// compared with the plain double loop.
#include <cmath>
#include <memory>

#include "bench/bench.h"
#include "mneme/kernels/attention_testing.h"
#include "mneme/kernels/paged_attention.h"

namespace mneme::bench {
namespace {

struct Shape {
  const char* name;
  int64_t q_heads, kv_heads, dim, layers;
};
constexpr Shape kSmolLm2 = {"SmolLM2", 9, 3, 64, 30};
constexpr Shape kGemma3 = {"Gemma 3", 4, 1, 256, 18};
constexpr int kRounds = 9;

using Heads = std::vector<std::span<const PageView>>;

struct Call {
  PagedAttention config;
  std::vector<float> q, out;
  AttentionScratch scratch;

  Call(const Shape& shape, RowEncoding encoding, int64_t queries, Rng& rng)
      : config{{encoding, shape.dim, shape.dim},
               shape.q_heads,
               shape.kv_heads,
               1.0f / std::sqrt(static_cast<float>(shape.dim))},
        q(testing::normals(rng, queries * shape.q_heads * shape.dim)),
        out(q.size()) {}

  void run(int64_t queries, int64_t first, const Heads& heads, ThreadPool& pool,
           std::span<const std::span<double>> sums = {}) {
    paged_attention(config, queries, first, q.data(), heads, out.data(), scratch, pool,
                    {.sums = sums});
  }

  // Throws unless the first `queries` answers are those of the definition.
  void check(int64_t queries, int64_t first, const Heads& heads) {
    const std::vector<double> want =
        testing::naive_attention<double>(config, queries, first, q.data(), heads);
    const std::vector<double> deviation =
        testing::RoundingError(config).deviation(queries, first, q.data(), heads);
    for (size_t i = 0; i < want.size(); ++i) {
      MNEME_CHECK(std::abs(want[i] - out[i]) <= 2e-6 + 6 * deviation[i], "bench_attention: value ",
                  i, " is ", out[i], ", expected ", want[i]);
    }
  }
};

void prefill(RowEncoding encoding, int64_t tokens, ThreadPool& pool, Report& report) {
  Rng rng(1);
  constexpr Shape kShape = kSmolLm2;
  Call call(kShape, encoding, tokens, rng);
  testing::PagedRows rows(call.config.format, kShape.kv_heads);
  rows.fill(tokens, rng);
  const Heads heads = rows.views();
  call.run(tokens, 0, heads, pool);
  call.check(std::min<int64_t>(tokens, 100), 0, heads);
  const Timing time = time_runs(tokens > 4096 ? 3 : 7, [&] { call.run(tokens, 0, heads, pool); });
  const auto n = static_cast<double>(tokens);
  const double gflops = 4.0 * kShape.dim * kShape.q_heads * n * (n + 1) / 2 / time.median_s / 1e9;
  report.row({{"what", "prefill"},
              {"shape", kShape.name},
              {"rows", tokens},
              {"encoding", row_encoding_name(encoding)},
              {"ms", time.median_s * 1e3},
              {"gflops", gflops},
              {"of_limit", gflops / report.limits().fma_gflops}});
  const double bytes =
      static_cast<double>(call.config.format.row_bytes() * tokens * kShape.kv_heads) +
      8.0 * n * static_cast<double>(kShape.q_heads * kShape.dim);
  report.kernel(concat("prefill attention ", tokens, " ", row_encoding_name(encoding)),
                gflops * time.median_s * 1e9, bytes, time.median_s);
}

// One encoding's rows of all layers, and a decode step over them.
class Decoder {
 public:
  Decoder(const Shape& shape, RowEncoding encoding, int64_t rows, int64_t queries)
      : rng_(2), call_(shape, encoding, queries, rng_), rows_(rows), queries_(queries) {
    layers_.reserve(static_cast<size_t>(shape.layers));
    layers_.emplace_back(call_.config.format, shape.kv_heads).fill(rows, rng_);
    while (static_cast<int64_t>(layers_.size()) < shape.layers) layers_.push_back(layers_.front());
    for (testing::PagedRows& layer : layers_) heads_.push_back(layer.views());
    sums_.assign(static_cast<size_t>(shape.kv_heads), std::vector<double>(size_t(rows)));
    spans_.assign(sums_.begin(), sums_.end());
    bytes_ =
        static_cast<double>(call_.config.format.row_bytes() * rows * shape.kv_heads * shape.layers);
  }

  RowEncoding encoding() const { return call_.config.format.encoding; }
  double bytes() const { return bytes_; }
  void check(ThreadPool& pool) {
    call_.run(queries_, rows_ - queries_, heads_.back(), pool);
    call_.check(queries_, rows_ - queries_, heads_.back());
  }
  // Seconds of a step, with or without sums of weights.
  double step(ThreadPool& pool, bool sums) {
    return time_once([&] {
      for (const Heads& layer : heads_) {
        call_.run(queries_, rows_ - queries_, layer, pool,
                  sums ? std::span<const std::span<double>>(spans_)
                       : std::span<const std::span<double>>());
      }
    });
  }

 private:
  Rng rng_;
  Call call_;
  int64_t rows_, queries_;
  double bytes_ = 0;
  std::vector<testing::PagedRows> layers_;
  std::vector<Heads> heads_;
  std::vector<std::vector<double>> sums_;
  std::vector<std::span<double>> spans_;
};

void decode(const Shape& shape, int64_t rows, int64_t queries, ThreadPool& pool, Report& report) {
  std::vector<std::unique_ptr<Decoder>> decoders;
  size_t f16 = 0;
  for (const RowEncoding encoding : {RowEncoding::kF32, RowEncoding::kF16, RowEncoding::kBF16,
                                     RowEncoding::kQ8, RowEncoding::kQ4}) {
    if (encoding == RowEncoding::kF16) f16 = decoders.size();
    decoders.push_back(std::make_unique<Decoder>(shape, encoding, rows, queries));
    decoders.back()->check(pool);
  }
  std::vector<std::vector<double>> plain(decoders.size()), ratio(decoders.size()),
      cost(decoders.size());
  const MachineLimits limits = report.limits_around([&] {
    for (int round = -1; round < kRounds; ++round) {  // the first one warms up
      std::vector<double> seconds, with_sums;
      for (const auto& decoder : decoders) {
        seconds.push_back(decoder->step(pool, false));
        with_sums.push_back(decoder->step(pool, true));
      }
      for (size_t i = 0; i < decoders.size() && round >= 0; ++i) {
        plain[i].push_back(seconds[i]);
        ratio[i].push_back(seconds[f16] / seconds[i]);
        cost[i].push_back(with_sums[i] / seconds[i] - 1);
      }
    }
  });
  for (size_t i = 0; i < decoders.size(); ++i) {
    const double rate = decoders[i]->bytes() / median(plain[i]) / 1e9;
    report.row({{"what", "decode"},
                {"shape", shape.name},
                {"rows", rows},
                {"queries", queries},
                {"encoding", row_encoding_name(decoders[i]->encoding())},
                {"ms", median(plain[i]) * 1e3},
                {"gb_per_s", rate},
                {"of_read", rate / limits.read_gb_per_s},
                {"of_copy", rate / limits.copy_gb_per_s},
                {"times_f16", median(ratio[i])},
                {"sums_cost", median(cost[i])}});
    report.kernel(
        concat("decode attention ", shape.name, " ", rows, "x", queries, " ",
               row_encoding_name(decoders[i]->encoding())),
        4.0 * static_cast<double>(shape.dim * shape.q_heads * shape.layers * rows * queries),
        decoders[i]->bytes(), median(plain[i]));
  }
}

void run(Report& report) {
  ThreadPool pool(report.threads());
  for (const int64_t tokens : {512, 2048, 8192}) {
    for (const RowEncoding encoding : {RowEncoding::kF16, RowEncoding::kQ8, RowEncoding::kQ4}) {
      prefill(encoding, tokens, pool, report);
    }
  }
  for (const Shape& shape : {kSmolLm2, kGemma3}) {
    decode(shape, 512, 1, pool, report);
    decode(shape, 8192, 1, pool, report);
    decode(shape, 8192, 4, pool, report);
  }
}

}  // namespace
}  // namespace mneme::bench

int main(int argc, char** argv) {
  return mneme::bench::report_main("attention", argc, argv, mneme::bench::run);
}
